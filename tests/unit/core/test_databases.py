"""A database that can't be read is named, with what restores it."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from pipeline.core import databases
from pipeline.core.errors import PipelineError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MLflow's database, with a few pages."""
    file = tmp_path / "state" / "mlflow.db"
    file.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file)) as store, store:
        store.execute("create table runs (run_uuid text)")
        store.executemany("insert into runs values (?)", [("x" * 900,)] * 20)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(file.parent))
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    return file


def test_a_whole_database_and_none_are_fine(file: Path, tmp_path: Path):
    databases.check(file, thorough=True)
    databases.check(tmp_path / "none.db")
    assert databases.damaged() == []
    assert not (tmp_path / "none.db").exists()


def test_rows_of_a_store_that_is_not_there_yet(file: Path, tmp_path: Path):
    assert len(databases.rows(file, "SELECT * FROM runs", table="runs")) == 20
    assert databases.rows(file, "SELECT * FROM tags", table="tags") == []
    assert databases.rows(tmp_path / "none.db", "SELECT * FROM runs") == []
    with pytest.raises(PipelineError, match="no such table"):
        databases.rows(file, "SELECT * FROM tags")


@pytest.mark.parametrize("damage", ["cut", "garbage", "folder", "page", "link"])
def test_what_is_damaged_is_named(file: Path, tmp_path: Path, damage: str):
    content = file.read_bytes()
    if damage in ("cut", "garbage", "page"):
        page = content[:4096] + b"\xff" * 4096 + content[8192:]
        file.write_bytes({"cut": content[:9000], "garbage": b"x" * 9000, "page": page}[damage])
    else:
        file.unlink()
        file.symlink_to(tmp_path) if damage == "link" else file.mkdir()
    with pytest.raises(PipelineError, match=f"the database {file} can't be read: ") as caught:
        databases.check(file, thorough=True)
    assert "put a copy of it back" in caught.value.remedy
    assert [error.what for error in databases.damaged(thorough=True)] == [caught.value.what]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_what_a_killed_process_left_half_written_is_undone(file: Path, tmp_path: Path, mode: str):
    """The files as a kill leaves them: copied in the middle of a transaction that fills them."""
    with contextlib.closing(sqlite3.connect(file)) as store:
        store.execute(f"pragma journal_mode={mode}")
        store.execute("pragma cache_size=1")
        store.execute("begin")
        store.executemany("insert into runs values (?)", [("y" * 900,)] * 200)
        killed = shutil.copytree(file.parent, tmp_path / "killed") / file.name
    assert {one.name for one in killed.parent.iterdir()} > {file.name}
    databases.check(killed)
    with databases.reading(killed) as store:
        assert store.execute("select count(*) from runs").fetchone() == (20,)


def test_one_that_is_being_written_is_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(databases, "PATIENCE", 0)
    with contextlib.closing(sqlite3.connect(file)) as store:
        store.execute("begin exclusive")
        databases.check(file)


def test_the_error_of_a_library_names_the_database(file: Path):
    error = sqlite3.DatabaseError("file is not a database")
    assert "a database in" in databases.as_pipeline_error(error).what
    file.write_bytes(b"x" * 9000)
    assert f"the database {file} can't be read" in databases.as_pipeline_error(error).what
    assert databases.as_pipeline_error(KeyError("x")) is None
