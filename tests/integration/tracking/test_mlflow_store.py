"""MLflow's local store: a copy of a template that the installed MLflow migrates once."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from alembic import command
from mlflow.store.db import utils
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline.core.errors import PipelineError
from pipeline.tracking.mlflow import store as mlflow_store
from tests.support.mlflow_stores import Home, rows, schema
from tests.support.paths import ROOT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in home.variables.items():
        monkeypatch.setenv(name, value)
    return home


def identity(file: Path) -> tuple[int, int]:
    """What changes when a file is written again."""
    return file.stat().st_ino, file.stat().st_mtime_ns


def test_a_new_store_is_what_mlflow_makes(home: Home):
    mlflow_store.make_store(home.store)
    by_mlflow = home.folder / "by_mlflow.db"
    SqlAlchemyStore(f"sqlite:///{by_mlflow}", str(home.folder / "files"))._dispose_engine()
    assert schema(home.store) == schema(by_mlflow)
    assert rows(home.store, "pragma integrity_check") == [("ok",)]
    assert rows(home.store, "select * from experiments") == []


def test_the_template_is_made_once_for_its_owner_alone(home: Home):
    mlflow_store.make_store(home.store)
    made = identity(home.template)
    mlflow_store.make_store(home.folder / "another" / "mlflow.db")
    assert identity(home.template) == made
    assert home.template.parent.stat().st_mode & 0o777 == 0o700
    assert home.template.stat().st_mode & 0o777 == 0o600


def test_a_damaged_template_is_made_again(home: Home):
    mlflow_store.make_store(home.store)
    whole = home.template.read_bytes()
    for number, damage in enumerate((whole[: len(whole) // 2], b"garbage")):
        home.template.write_bytes(damage)
        another = home.folder / f"another-{number}" / "mlflow.db"
        mlflow_store.make_store(another)
        assert schema(another) == schema(home.store)
        assert schema(home.template) == schema(home.store)


def test_all_below_a_killed_run_is_killed(home: Home):
    """A step of a sweep's trial too."""
    mlflow_store.make_store(home.store)
    client = mlflow.MlflowClient(f"sqlite:///{home.store}")
    experiment = client.create_experiment("dev")

    def begin(above: str | None = None) -> str:
        tags = {MLFLOW_PARENT_RUN_ID: above} if above else {}
        return client.create_run(experiment, tags=tags).info.run_id

    sweep = begin()
    trial, finished = begin(sweep), begin(sweep)
    step = begin(trial)
    client.set_terminated(finished)
    mlflow_store.kill_run(client, client.get_run(sweep))
    states = [client.get_run(run).info.status for run in (sweep, trial, step, finished)]
    assert states == ["KILLED", "KILLED", "KILLED", "FINISHED"]


def test_a_store_that_exists_is_left_alone(home: Home):
    mlflow_store.make_store(home.store)
    made = identity(home.store)
    mlflow_store.make_store(home.store)
    assert identity(home.store) == made


def test_half_made_files_are_ignored(home: Home):
    mlflow_store.make_store(home.store)
    whole, expected = home.template.read_bytes(), schema(home.store)
    for file in (home.template, home.store):
        file.unlink()
        Path(f"{file}.partial").write_bytes(whole[: len(whole) // 3])
    mlflow_store.make_store(home.store)
    assert schema(home.store) == expected
    assert not list(home.folder.rglob("*.partial"))


def test_a_cache_folder_that_cannot_be_written(home: Home):
    Path(home.variables["XDG_CACHE_HOME"]).write_text("a file, not a folder")
    mlflow_store.make_store(home.store)
    assert schema(home.store) == schema(home.store.with_name(home.template.name))


def test_a_database_that_the_user_names(home: Home):
    named = home.folder / "elsewhere" / "runs.db"
    process = home.start(MLFLOW_TRACKING_URI=f"sqlite:///{named}?timeout=30")
    out, error = process.communicate(timeout=600)
    assert (process.returncode, out) == (0, "1\n"), error
    assert schema(named) == schema(home.template)
    assert not home.store.exists()


def test_a_store_that_was_half_made_is_made_again(home: Home, capsys: pytest.CaptureFixture[str]):
    """As by an earlier version that was killed while MLflow made its tables."""
    mlflow_store.make_store(home.store)
    expected = schema(home.store)
    for damage in ("drop table alembic_version", "delete from alembic_version"):
        with contextlib.closing(sqlite3.connect(home.store)) as store:
            store.execute(damage)
            store.commit()
        mlflow_store.make_store(home.store)
        assert schema(home.store) == expected
        assert "was incomplete and is replaced" in capsys.readouterr().out


def test_a_database_of_something_else_is_left_alone(home: Home):
    home.store.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(home.store)) as store:
        store.execute("create table recipes (name)")
        store.commit()
    made = home.store.read_bytes()
    mlflow_store.make_store(home.store)
    assert home.store.read_bytes() == made


def test_a_store_of_an_earlier_mlflow_is_migrated_beside_its_place(home: Home):
    mlflow_store.make_store(home.store)
    file, folder = f"sqlite:///{home.store}", str(home.folder / "files")
    made = SqlAlchemyStore(file, folder)
    made.create_experiment("kept")
    expected, (head,) = schema(home.store), rows(home.store, "select * from alembic_version")
    config = utils._get_alembic_config(file)
    command.downgrade(config, "-1")
    made._dispose_engine()
    (before,) = rows(home.store, "select * from alembic_version")
    assert before != head
    mlflow_store.make_store(home.store)
    assert rows(home.store, "select * from alembic_version") == [head]
    assert ("kept",) in rows(home.store, "select name from experiments")
    (kept,) = home.store.parent.glob("mlflow.db.before-*")
    assert rows(kept, "select * from alembic_version") == [before]
    assert {*schema(home.store)} == {*expected}


def test_a_store_of_a_newer_mlflow_is_refused(home: Home):
    mlflow_store.make_store(home.store)
    with contextlib.closing(sqlite3.connect(home.store)) as store:
        store.execute("update alembic_version set version_num = 'ffffffffffff'")
        store.commit()
    made = home.store.read_bytes()
    with pytest.raises(PipelineError, match="was made by a newer MLflow"):
        mlflow_store.make_store(home.store)
    assert home.store.read_bytes() == made
    assert not list(home.store.parent.glob("*.partial"))


def test_reading_makes_no_store(home: Home):
    with pytest.raises(PipelineError, match="nothing has been recorded yet"):
        mlflow_store.existing()
    assert list(home.folder.iterdir()) == []


PLUGIN = """
def store(store_uri, artifact_uri=None):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    assert store_uri.endswith("/workspaces/ml"), store_uri
    return SqlAlchemyStore("sqlite:///{database}", "{files}")
"""
LOG = """
from pipeline.tracking.mlflow import store
store.connect("dev")
with store.active_run("train"):
    import mlflow
    mlflow.log_metric("f1", 0.5)
"""


def test_runs_are_kept_in_an_azure_workspace_by_its_plugin(home: Home):
    """A plugin for the scheme that Azure's has, which keeps runs in a database."""
    site, here = home.folder / "site", home.folder / "here"
    about = site / "azureml_mlflow-1.dist-info"
    for folder in (about, here):
        folder.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: azureml-mlflow\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[mlflow.tracking_store]\nazureml = plugin:store\n")
    mlflow_store.make_store(database := home.folder / "workspace.db")
    text = PLUGIN.format(database=database, files=home.folder / "files")
    (site / "plugin.py").write_text(text)
    (here / "config.json").write_text(
        '{"subscription_id": "1", "resource_group": "a", "workspace_name": "ml", "location": "x"}'
    )
    done = subprocess.run(
        [sys.executable, "-c", LOG],
        cwd=here,
        env={**os.environ, "PYTHONPATH": f"{site}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert rows(database, "select key, value from metrics") == [("f1", 0.5)]
    assert not home.store.exists()
