"""Raw rows to predictions: the very cleaning of 2-ETL, in pieces, and no row is lost."""

import csv
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import model_folder
from pipeline.core.errors import PipelineError
from pipeline.models import launch
from pipeline.models import predict as program
from pipeline.models.scoring import LoadedModel
from pipeline.science import training
from pipeline.science.data import tables
from tests.support.fitted import fitted
from tests.support.paths import POKEMON, ROOT
from tests.support.registered import CLEANING, Registered

TITLES = POKEMON.read_text().splitlines()[0].split(",")


@pytest.fixture(scope="module")
def pokemon(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model of the Pokémon."""
    folder = tmp_path_factory.mktemp("pokemon")
    return fitted(folder, tables.read_raw(POKEMON), "legendary", ["number", "name"], CLEANING)


def row(**changes: str) -> dict[str, str]:
    """A raw row that can be scored."""
    cells = dict(zip(TITLES, POKEMON.read_text().splitlines()[1].split(","), strict=True))
    assert set(changes) <= set(cells)
    return {**cells, **changes}


def scored(model: LoadedModel, folder: Path, text: str | bytes, **options: object) -> list[dict]:
    """A file's rows after it has been scored."""
    source, target = folder / "in.csv", folder / "out.csv"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    program.predict(model, source, target, **options)
    assert [path.name for path in folder.iterdir() if "partial" in path.name] == []
    with target.open(encoding=options.get("encoding") or "utf-8", newline="") as file:
        return [*csv.DictReader(file, delimiter=options.get("sep") or ",")]


def as_csv(rows: list[dict[str, str]]) -> str:
    """Rows as a CSV file has them."""
    return pd.DataFrame(rows).to_csv(index=False)


def test_raw_rows_are_scored_as_the_pipeline_scores_clean_ones(
    pokemon: LoadedModel, tmp_path: Path
):
    """For the whole data set: what the model says of the cleaned table, row by row."""
    clean = tables.read_table(pokemon.folder / "clean.csv")
    features, _ = training.separate(clean, "legendary", ["number", "name"])
    rows = scored(pokemon, tmp_path, POKEMON.read_bytes(), chunk=37)
    assert [one["prediction"] for one in rows] == [*map(str, pokemon.model.predict(features))]
    chances = pokemon.model.predict_proba(features)
    assert [float(one["probability_True"]) for one in rows] == [*chances[:, 1]]
    assert [{title: one[title] for title in TITLES} for one in rows] == [
        *csv.DictReader(POKEMON.read_text(encoding="utf-8").splitlines())
    ]
    assert {one["reason"] for one in rows} == {""}


cells = st.sampled_from(["1", " 2 ", "2.5", "", "NA", "x", "True", "false", "1e3", "inf", "-7"])


@given(
    rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=12),
    chunk=st.integers(1, 5),
)
def test_every_row_comes_out_in_its_place(
    rows: list[tuple[str, str, str]], chunk: int, odd: LoadedModel, tmp_path_factory
):
    """Whatever the cells: each row once, in order, with a prediction or else with a reason."""
    text = "id,n,word,truth\n" + "".join(
        f"{number},{','.join(row)}\n" for number, row in enumerate(rows)
    )
    out = scored(odd, tmp_path_factory.mktemp("law"), text, chunk=chunk)
    assert [one["id"] for one in out] == [str(number) for number in range(len(rows))]
    for (n, word, truth), one in zip(rows, out, strict=True):
        assert bool(one["prediction"]) != bool(one["reason"])
        good = n.strip() in ("1", "2", "2.5", "1e3", "-7", "", "NA")
        known = truth.strip().lower() in ("true", "false")
        assert (one["reason"] == "") == (good and known), (n, word, truth, one["reason"])


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model of a number with gaps, a word with gaps, and a truth without."""
    raw = pd.DataFrame(
        {
            "n": [str(number) for number in range(39)] + [""],
            "word": ["a", "b", "", "NA"] * 10,
            "truth": ["true", "False"] * 20,
            "y": ["p", "q", "p", "p"] * 10,
        },
        dtype="str",
    )
    cleaning = {"missing": ["", "NA"], "required": ["y"], "fill": {}, "schema": []}
    return fitted(tmp_path_factory.mktemp("odd"), raw, "y", [], cleaning)


def test_why_a_row_has_no_prediction(pokemon: LoadedModel, tmp_path: Path):
    bad = {
        "hp: 'abc' is not a number": {"HP": "abc"},
        "hp: 300 breaks max 255": {"HP": "300"},
        "hp: 1.5 breaks dtype int": {"HP": "1.5"},
        "hp: missing": {"HP": " "},
        "attack: 'inf' is not a number": {"Attack": "inf"},
        "type_1: missing": {"Type 1": ""},
        "hp: 0 breaks min 1": {"HP": "0"},
        "": {"Type 2": "", "Name": "", "#": "", "Legendary": "who knows"},
    }
    rows = scored(pokemon, tmp_path, as_csv([row(**changes) for changes in bad.values()]))
    assert [one["reason"] for one in rows] == [*bad]
    both = scored(pokemon, tmp_path, as_csv([row(HP="", Attack="x")]))
    assert both[0]["reason"] == "attack: 'x' is not a number; hp: missing"
    ragged = as_csv([row()]) + "1,2,3\n\n" + ",".join(["1"] * 15) + "\n"
    short, long = scored(pokemon, tmp_path, ragged)[1:]
    assert short["reason"] == "cells: the row has 3, and the header 13"
    assert long["reason"] == "cells: the row has 15, and the header 13; left out: ['1', '1']"


def test_other_forms_of_a_file(pokemon: LoadedModel, tmp_path: Path):
    line = as_csv([row(Name='Flabébé; "the" 2nd')])
    marked = b"\xef\xbb\xbf" + line.encode()
    assert scored(pokemon, tmp_path, marked)[0]["Name"] == 'Flabébé; "the" 2nd'
    form = {"sep": ";", "encoding": "latin-1"}
    data = pd.DataFrame([row(Name="Flabébé")]).to_csv(index=False, sep=";").encode("latin-1")
    assert scored(pokemon, tmp_path, data, **form)[0]["Name"] == "Flabébé"
    clean_names = as_csv([row()]).replace("Sp. Atk", "sp_atk").replace("Type 1", "type_1")
    assert scored(pokemon, tmp_path, clean_names)[0]["reason"] == ""
    assert scored(pokemon, tmp_path, ",".join(TITLES) + "\n") == []


FORMULAS = ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "a=1"]


def test_cells_are_safe_for_spreadsheets_on_request(odd: LoadedModel, tmp_path: Path):
    """Whatever a spreadsheet takes for a formula gets a quotation mark; by default all stays."""
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "n", "word", "truth", "=title"])
        out.writerows([text, "=2", "x", "true", "t"] for text in FORMULAS)
    text = (tmp_path / "rows.csv").read_bytes()
    plain = scored(odd, tmp_path, text)
    assert [one["id"] for one in plain] == FORMULAS
    assert all("=title" in one for one in plain)
    safe = scored(odd, tmp_path, text, safe_for_spreadsheets=True)
    assert [one["id"] for one in safe] == [*(f"'{text}" for text in FORMULAS[:-1]), "a=1"]
    assert all("'=title" in one and one["n"] == "'=2" for one in safe)


def test_files_that_can_not_be_scored_leave_nothing(pokemon: LoadedModel, tmp_path: Path):
    for text, words in {
        b"": "is empty",
        b"a,b\n1,2\n": "the rows lack 'type_1'",
        ",".join(TITLES).replace("HP", "H.P.").encode() + b"\n": "the rows lack 'hp'",
        (",".join(TITLES) + ",prediction\n").encode(): "'prediction' already",
        (",".join(TITLES) + ",hp\n").encode(): "all become",
        as_csv([row(Name="Flabébé")]).encode("latin-1"): "is not text in utf-8",
        as_csv([row()]).replace(",", ";").encode(): "looks separated by ';'",
    }.items():
        with pytest.raises(PipelineError, match=words):
            scored(pokemon, tmp_path, text)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_the_command(registered: Registered, tmp_path: Path):
    """Looked up in the registry, scored in a process of its own, told in a few lines."""
    place = registered.copy(tmp_path / "home")
    source = place.home / "new.csv"
    source.write_text(as_csv([row(), row(HP="abc"), row(Name="b")]))
    files = ["--input", "new.csv", "--output", "scored.csv", "--env-manager=local"]
    out = place.pipeline("predict", *files, status=1)
    assert "no version 'production'; its aliases are: candidate" in out
    assert not (place.home / "scored.csv").exists()
    out = place.pipeline("predict", "--model", "candidate", *files)
    assert "2 of 3 rows scored with pokemon-legendary version 3: scored.csv" in out
    assert "1 not scored because of hp; row 2: hp: 'abc' is not a number" in out
    assert len((place.home / "scored.csv").read_text().splitlines()) == 4
    users = os.umask(0o077)
    os.umask(users)
    assert (place.home / "scored.csv").stat().st_mode & 0o777 == 0o666 & ~users
    words = ("--model=candidate", *files[:2], "--output=weekly.html", *files[4:])
    out = place.pipeline("report", *words)
    assert "2 of 3 rows scored with pokemon-legendary version 3: weekly.html" in out
    text = (place.home / "weekly.html").read_text()
    assert "columns have changed since training" in text
    assert "test data, when trained" in text


def test_other_formats_are_scored_as_csv_is(registered: Registered, tmp_path: Path):
    """Packed, typed, or in one of a workbook's sheets; by predict and by the report."""
    place = registered.copy(tmp_path / "home")
    table = pd.read_csv(POKEMON).head(40)
    table.to_csv(place.home / "rows.csv", index=False)
    table.to_csv(place.home / "rows.csv.gz", index=False)
    table.to_parquet(place.home / "rows.parquet")
    table.to_json(place.home / "rows.json", orient="records")
    with pd.ExcelWriter(place.home / "rows.xlsx") as book:
        pd.DataFrame({"note": ["weekly"]}).to_excel(book, sheet_name="About", index=False)
        table.to_excel(book, sheet_name="Rows", index=False)
    words = ("--model=candidate", "--env-manager=local")
    answers = {}
    for name in ("rows.csv", "rows.csv.gz", "rows.parquet", "rows.json", "rows.xlsx"):
        given = (*words, f"--input={name}", *(["--table=Rows"] if "xlsx" in name else []))
        out = place.pipeline("predict", *given, f"--output={name}.scored.csv")
        assert "40 of 40 rows scored" in out
        scored = pd.read_csv(place.home / f"{name}.scored.csv")
        answers[name] = scored.filter(regex="prediction|probability").to_numpy().tolist()
    assert all(answer == answers["rows.csv"] for answer in answers.values())
    out = place.pipeline("report", *words, "--input=rows.xlsx", "--table=Rows", "--output=r.html")
    assert "40 of 40 rows scored" in out
    given = ("--input=rows.xlsx", "--output=no.csv")
    out = place.pipeline("predict", *words, *given, "--table=Row", status=1)
    assert "--table='Row' is not in the workbook rows.xlsx (did you mean 'Rows'?)" in out
    out = place.pipeline("predict", *words, *given, status=1)
    assert "the sheet 'About' is read; others: Rows (--table=NAME)" in out
    assert not (place.home / "no.csv").exists()


def test_files_that_can_not_be_read_or_written(tmp_path: Path):
    """Said before anything is looked up."""
    source = tmp_path / "new.csv"
    source.write_text(as_csv([row()]))
    for files, words in {
        (tmp_path / "none.csv", tmp_path / "a.csv"): "there is no file",
        (source, source): "can't be written over",
        (source, tmp_path): "can't be written over",
        (source, tmp_path / "no" / "a.csv"): "there is no folder",
    }.items():
        with pytest.raises(PipelineError, match=words):
            launch.predict("any", "production", *files, "local")


def test_memory_does_not_grow_with_the_file(pokemon: LoadedModel, tmp_path: Path):
    """Twelve times the rows, about the same peak."""
    (pokemon.folder / "requirements.txt").touch()
    code = "import resource, sys; from pipeline.models import predict as p; p.main(*sys.argv[1:]); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    peaks = []
    for times in (2, 24):
        body = POKEMON.read_text().split("\n", 1)[1] * times
        source = tmp_path / f"{times}.csv"
        source.write_text(f"{','.join(TITLES)}\n{body}")
        words = [str(pokemon.folder), str(source), str(tmp_path / "out.csv")]
        options = json.dumps({"chunk": 1000})
        place = Registered(tmp_path)
        out = place.printed("-c", code, *words, options)
        peaks.append(int(out.splitlines()[-1]))
    assert peaks[1] < peaks[0] * 1.1


def test_a_model_cleans_as_it_did_when_it_was_trained(tmp_path: Path):
    """A rule that changes afterwards changes nothing for predict and serve, which load it so."""
    (tmp_path / "now").mkdir()
    raw = tables.read_raw(POKEMON)
    model = fitted(tmp_path / "now", raw, "legendary", ["number", "name"], CLEANING)
    earlier = shutil.copytree(tmp_path / "now", tmp_path / "then")
    for name in model_folder.CODE:
        text = (ROOT / "pipeline/science/data" / name).read_text(encoding="utf-8")
        if name == "cleaning.py":  # at that time n/k meant that there is no value
            assert text.count('isin(["", *missing])') == 1
            text = text.replace('isin(["", *missing])', 'isin(["", "n/k", *missing])')
        (earlier / "extra_files" / name).write_text(text, encoding="utf-8")
    then = LoadedModel.from_folder(earlier)
    rows = pd.DataFrame([row(HP="n/k")])
    assert model.score(rows)["reason"].tolist() == ["hp: 'n/k' is not a number"]
    assert then.score(rows)["reason"].tolist() == ["hp: missing"]
    assert model.score(rows)["reason"].tolist() == ["hp: 'n/k' is not a number"]
