"""Runs are ranked by metrics on the same test data, and on no other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.history.compare import choose
from pipeline.history.runs import History

Make = Callable[[str, float, str], None]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Writes the record of a run by its id, its f1 and the digest of its test data."""
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def write(id: str, f1: float, test: str) -> None:
        used = {"name": "test_data.csv", "version": "v0", "digest": test, "type": "split_data"}
        step = {"step": "4", "status": "ran", "inputs": [used], "metrics": {"f1": f1}}
        told = {
            "run_id": id, "status": "finished", "started": f"2026-01-0{id[-1]}T00:00:00+00:00",
            "developer": "me", "project": "p", "experiment": "dev", "tracker": "trackio",
            "git_commit": None, "git_dirty": None, "mlflow_run": None, "metrics": {"f1": f1},
            "config": {"split": {"test_artifact_name": "test_data.csv"}},
            "steps": {"4": step | {"fingerprint": id}},
        }  # fmt: skip
        (tmp_path / "runs" / id).mkdir(parents=True)
        (tmp_path / "runs" / id / "summary.json").write_text(json.dumps(told))

    return write


def test_the_best_are_those_on_the_newest_runs_test_data(make: Make):
    make("run1", 0.5, "a")
    make("run2", 0.9, "b")
    make("run3", 0.4, "a")
    found = choose([], 10, None, "f1")
    assert [run.id for run in found.runs] == ["run1", "run3"]
    assert found.note == "1 runs were measured on other test data and are not ranked"
    assert [run.id for run in History().best("f1", 1)] == ["run1"]


def test_runs_on_other_test_data_are_marked_and_not_sorted(make: Make):
    make("run1", 0.5, "a")
    make("run2", 0.9, "b")
    make("run3", 0.7, "a")
    found = choose(["run1", "run2", "run3"], None, None, "f1")
    assert [run.id for run in found.runs] == ["run1", "run2", "run3"]
    assert found.metric is None
    assert found.differences("f1") == [None, None, pytest.approx(0.2)]
    assert "some runs were measured on other test data" in found.note
    same = choose(["run1", "run3"], None, None, "f1")
    assert [run.id for run in same.runs] == ["run3", "run1"]
    assert same.note == ""


def test_a_metric_that_nobody_measured(make: Make):
    make("run1", 0.5, "a")
    with pytest.raises(PipelineError, match="no finished run has the metric 'r2'"):
        choose([], 10, None, "r2")
