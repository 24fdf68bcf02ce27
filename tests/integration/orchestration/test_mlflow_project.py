"""A run in MLflow ends, whatever fails at its beginning and end, and is in nobody's way."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from pipeline.core import settings
from pipeline.orchestration.execution import processes
from pipeline.orchestration.execution.backends import Backend
from pipeline.orchestration.execution.mlflow_project import Executor
from pipeline.orchestration.execution.workers import Workers


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    """One with a store of its own, before its run has begun."""
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = mlflow.get_tracking_uri()
    yield Executor("one", tmp_path, "dev", "local", Backend(), processes.Marker("one"), Workers())
    mlflow.end_run()
    mlflow.set_tracking_uri(before)


def refuse(*_: object) -> None:
    """What MLflow's writing of a file comes to when the disk is full."""
    raise OSError("no space left on device")


def states(executor: Executor) -> list[str]:
    """The states of all runs, the last one's first."""
    return [run.info.status for run in executor.client.search_runs([executor.experiment])]


def test_a_run_that_could_not_begin_has_ended(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mlflow, "log_text", refuse)
    with pytest.raises(OSError, match="no space left"):
        executor.start("", {}, None, {})
    assert executor.parent is None
    assert mlflow.active_run() is None
    assert states(executor) == ["FAILED"]


@pytest.mark.parametrize(
    ("status", "told"), [("FINISHED", "FAILED"), ("FAILED", "FAILED"), ("KILLED", "KILLED")]
)
def test_a_run_whose_record_is_not_whole_ends(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, told: str
):
    executor.start("", {}, None, {})
    with monkeypatch.context() as patched:
        patched.setattr(mlflow, "log_text", refuse)
        with pytest.raises(OSError, match="no space left"):
            executor.end(status, {"f1": 0.5}, "{}")
    executor.start("", {}, None, {})  # the next trial of this process
    executor.end("FINISHED", {}, "{}")
    assert states(executor) == ["FINISHED", told]
