"""Markers of runs under way, and what may be removed after a run that was killed."""

import json
import os
import pickle
import socket
import tempfile
from pathlib import Path

import mlflow
import pytest

from pipeline.core import settings
from pipeline.orchestration import dead_runs
from pipeline.orchestration.execution import processes
from pipeline.orchestration.execution.processes import Marker


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the markers; MLflow knows no run."""
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(settings.SYSTEM_TMPDIR, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(mlflow, "MlflowClient", lambda: None)
    monkeypatch.setattr(dead_runs, "_mlflow_runs", lambda *_: [])
    folder = tmp_path / "state" / "running"
    folder.mkdir(parents=True)
    return folder


def test_a_run_is_alive_while_its_process_holds_the_lock(running: Path):
    marker = Marker("one")
    marker.note(mlflow_run="a")
    marker.note(temporary="b")
    assert Marker("one").is_alive()
    assert not list(processes.killed_runs())
    assert not pickle.loads(pickle.dumps(marker)).claim()  # a copy in a trial's process
    marker.release()
    assert not Marker("one").is_alive()
    ((dead, noted),) = processes.killed_runs()
    assert dead.id == "one"
    assert (noted["mlflow_run"], noted["temporary"]) == ("a", "b")


def test_one_start_at_a_time_tidies_up(running: Path):
    marker = Marker("one")
    marker.note()
    marker.release()
    first = processes.killed_runs()
    assert next(first)[0].id == "one"
    assert not list(processes.killed_runs())
    first.close()
    assert [dead.id for dead, _ in processes.killed_runs()] == ["one"]


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"mlflow_store": "another"}])
def test_what_is_not_ours_stays(running: Path, change: dict[str, str]):
    (running / "one.json").write_text(json.dumps({"host": socket.gethostname(), **change}))
    dead_runs.mark_dead()
    assert (running / "one.json").exists()


@pytest.mark.parametrize("text", ["", '{"host": "a', "[]", "7", '{"mlflow_run": "a"}', "\udcff"])
def test_a_damaged_marker_counts_as_absent(running: Path, text: str, capsys: pytest.CaptureFixture):
    (running / "one.json").write_bytes(text.encode(errors="surrogateescape"))
    dead_runs.mark_dead()
    assert f"warning: {running / 'one.json'} is ignored: " in capsys.readouterr().err
    assert not list(running.iterdir())


def test_what_a_killed_start_had_only_begun_is_removed(running: Path):
    (running / "one.lock").touch()
    (running / "two.json.17.1234.partial").touch()
    dead_runs.mark_dead()
    assert not list(running.iterdir())


def named(running: Path, folder: Path) -> None:
    """A run was killed whose marker names this folder."""
    marker = Marker("one")
    marker.note(temporary=str(folder))
    marker.release()
    dead_runs.mark_dead()


def test_the_temporary_folder_of_a_killed_run_is_removed(running: Path, tmp_path: Path):
    folder = tmp_path / "pipeline-0123abcd"
    (folder / "inside").mkdir(parents=True)
    named(running, folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["mine", "pipeline-0123abcde", "below/pipeline-0123abcd", "x/../pipeline-0123abcd"]
)
def test_no_other_folder_is_removed(
    running: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture
):
    (tmp_path / "x").mkdir()
    folder = tmp_path / name
    folder.mkdir(parents=True)
    named(running, folder)
    assert folder.is_dir()
    assert f"warning: {folder} stays" in capsys.readouterr().err
    assert not list(running.iterdir())


def test_no_link_and_no_one_elses_folder_is_removed(
    running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    precious = tmp_path / "precious"
    precious.mkdir()
    link = tmp_path / "pipeline-0123abcd"
    link.symlink_to(precious)
    named(running, link)
    assert link.is_symlink()
    assert precious.is_dir()

    theirs = tmp_path / "pipeline-ffffffff"
    theirs.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    named(running, theirs)
    assert theirs.is_dir()
