"""A damaged state folder: what is damaged is named, what is missing is made again, and no file
outside is touched."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.attack import state as attack
from tests.support.paths import ROOT
from tests.support.runs import SMALL, Checkout, Finished


@pytest.fixture
def checkout(finished: tuple[Checkout, Finished], tmp_path: Path) -> Checkout:
    """A place in which the pipeline has run, to be damaged."""
    return attack.make(finished[0], tmp_path)


def model(checkout: Checkout) -> Path:
    """The model's file in MLflow."""
    (found,) = checkout.state.glob("mlflow/artifacts/models/*/artifacts/model.skops")
    return found


def test_a_few_edits(checkout: Checkout, tmp_path: Path):
    """tests/stress makes hundreds."""
    words = ("-m", "tests.attack.state", tmp_path, "8")
    done = checkout.python(*words, cwd=ROOT, PIPELINE_STATE_DIR=str(checkout.state))
    assert done.status == 0, done.err[-3000:]


def test_what_mlflow_has_lost_is_named_and_made_again(checkout: Checkout):
    assert checkout.tool("verify").out.strip() == "no problems found"
    lost = model(checkout)
    lost.write_bytes(b"\x80\x04N.")  # a pickle
    told = checkout.tool("verify")
    assert told.status == 1
    assert f"has been changed on disk: {lost}" in told.out
    assert "pokemon-legendary version 1 has been changed on disk" in told.out

    shutil.rmtree(lost.parents[1])
    told = checkout.tool("verify")
    assert told.status == 1
    assert f"is missing its file {lost}" in told.out
    assert f"pokemon-legendary version 1 is missing its file {lost}" in told.out
    assert "changed" not in told.out
    words = ("--model=1", "--input", ROOT / "data" / "pokemon.csv", "--env-manager=local")
    told = checkout.tool("predict", *words, "--output", checkout.home / "out.csv")
    assert told.status == 1
    assert "pokemon-legendary version 1 is missing files" in told.err
    assert "Traceback" not in told.err
    again = checkout.run(SMALL)
    assert again.states == ["cached", "cached", "cached", "ran"], again.out
    assert f"is missing its file {lost}; 4-Training_model is run again" in again.out
    assert checkout.tool("verify").out.strip() == "no problems found"
    assert checkout.run(SMALL).states == ["cached"] * 4


def test_a_database_that_can_not_be_read_is_named(checkout: Checkout):
    """In a line, by each command; tests/stress makes anew what it held."""
    mlflow, trackio = checkout.state / "mlflow.db", checkout.state / "trackio" / "pokemon.db"
    content = mlflow.read_bytes()
    mlflow.write_bytes(content[: len(content) // 2])
    trackio.write_bytes(b"garbage " * 1000)
    words = ("--model=candidate", "--input", ROOT / "data" / "pokemon.csv", "--env-manager=local")
    told = checkout.tool("verify")
    assert told.status == 1
    assert len(told.out.splitlines()) == 3, told.out
    named(told.out, mlflow)
    named(told.out, trackio)
    refused = checkout.run(SMALL)
    assert refused.status == 1
    named(refused.err, mlflow)
    for command in (("log",), ("predict", *words, "--output", checkout.home / "out.csv")):
        told = checkout.tool(*command)
        assert told.status == 1
        assert len(told.err.splitlines()) == 2, told.err
        named(told.err, mlflow)
    mlflow.write_bytes(content)
    refused = checkout.run(SMALL)
    assert refused.status == 1
    named(refused.err, trackio)


def named(said: str, file: Path) -> None:
    """A database is named, with what restores it."""
    assert f"the database {file} can't be read" in said
    assert "put a copy of it back" in said
    assert "Traceback" not in said


def test_gc_removes_nothing_outside(checkout: Checkout, tmp_path: Path):
    """Whatever a link or a database in the state folder names."""
    outside = tmp_path / "outside"
    (outside / "2-ETL" / "key").mkdir(parents=True)
    (outside / "2-ETL" / "key" / "mine.json").write_text("{}")
    (outside / "2-ETL" / "key" / "mine.partial").write_text("{}")
    shutil.copytree(checkout.state / "runs", outside / "runs")
    (linked,) = (outside / "runs").iterdir()
    shutil.copytree(linked, outside / "one")
    before = attack.content_digest(outside)
    shutil.rmtree(checkout.state / "finished")
    (checkout.state / "finished").symlink_to(outside)
    with contextlib.closing(sqlite3.connect(checkout.state / "mlflow.db")) as store, store:
        store.execute("update runs set artifact_uri = ?", (outside.as_uri(),))
        place = (str(outside / "runs"),)
        store.execute("update logged_models set artifact_location = ?", place)
    with contextlib.closing(sqlite3.connect(checkout.state / "trackio/pokemon.db")) as store, store:
        place = f"../../../../../{outside.name}/{attack.PRECIOUS}"
        manifest = '[{"path": "a", "size": 1, "digest": "' + place + '"}]'
        store.execute("update artifact_versions set manifest = ?", (manifest,))
    told = checkout.tool("gc", "--keep", "0", "--yes")
    assert told.status == 0, told.err
    assert f"stays: its files are in {outside}" in told.err
    assert f"{checkout.state / 'finished/2-ETL/key/mine.json'} stays" in told.err
    assert attack.content_digest(outside) == before
