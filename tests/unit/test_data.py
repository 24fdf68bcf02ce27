"""The data sets in the repository are what they are said to be."""

import runpy

import pandas as pd

from pipeline.core.files import file_digest
from tests.support.paths import POKEMON, ROOT

POKEMON_SHA256 = "02eabc49d3c70bc1e150891bdb9acb254910adfdfc12a6020c7b7117b2eca32f"


def test_pokemon_is_the_published_table_byte_for_byte() -> None:
    data = POKEMON.read_bytes()
    assert file_digest(POKEMON) == POKEMON_SHA256
    assert len(data) == 44_028
    assert data.count(b"\n") == 801
    assert b"\r" not in data
    assert b'"' not in data
    assert not data.startswith(b"\xef\xbb\xbf")


def test_pokemon_facts() -> None:
    table = pd.read_csv(POKEMON)
    assert list(table)[:5] == ["#", "Name", "Type 1", "Type 2", "Total"]
    assert len(table) == 800
    assert table["Legendary"].sum() == 65
    assert table["Type 2"].isna().sum() == 386
    assert table["Name"].is_unique
    assert table["#"].nunique() == 721
    stats = ["HP", "Attack", "Defense", "Sp. Atk", "Sp. Def", "Speed"]
    assert (table[stats].sum(axis=1) == table["Total"]).all()


def test_iris_is_scikit_learns_copy(tmp_path) -> None:
    script = tmp_path / "tools" / "make_iris.py"
    for folder in ("tools", "data"):
        (tmp_path / folder).mkdir()
    script.write_bytes((ROOT / "tools" / "make_iris.py").read_bytes())
    runpy.run_path(str(script), run_name="__main__")
    assert (tmp_path / "data" / "iris.csv").read_bytes() == (
        ROOT / "data" / "iris.csv"
    ).read_bytes()
