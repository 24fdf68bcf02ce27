"""A database is read as MLflow reads it."""

import json
import math
import re
from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.history.stored.database import DatabaseRuns, StoredRun
from pipeline.history.stored.server import ServerRuns
from pipeline.tracking.mlflow import store

TAGS = {
    "pipeline.tracker": "trackio", "developer": "Ada", "git.dirty": "true",
    "mlflow.source.git.commit": "c0ffee",
}  # fmt: skip


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True, scope="module")
def runs(state: Path) -> None:
    """Runs of pipelines in two experiments; a step's, a deleted one and a deleted experiment's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_STATE_DIR", str(state))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        experiments = [store.connect(name) for name in ("dev", "prod", "old")]
        client = store.client()
        measured = [{"f1": 0.5, "rmse": 3.0}, {"f1": math.nan}, {}, {"f1": 0.75, "rmse": 1.0}]
        for number, metrics in enumerate([*measured, *measured]):
            tags = {**TAGS, "pipeline.run_id": f"2026010{number}-a"}
            begun = 1_700_000_000_000 + 1000 * (number % 4)
            run = client.create_run(experiments[number % 2], start_time=begun, tags=tags)
            for name, value in metrics.items():
                client.log_metric(run.info.run_id, name, -1.0)
                client.log_metric(run.info.run_id, name, value, step=1)
            client.set_terminated(run.info.run_id, "FAILED" if number % 3 else "FINISHED")
            config = {"main": {"project_name": "p", "experiment_name": "dev"}}
            client.log_text(run.info.run_id, json.dumps(config), "config.yaml")
        client.delete_run(run.info.run_id)
        client.create_run(experiments[0], tags={"pipeline.run_id": "20260100-a"})
        client.create_run(experiments[2], tags={**TAGS, "pipeline.run_id": "20260109-a"})
        client.delete_experiment(experiments[2])


@pytest.fixture(autouse=True)
def in_state(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(state))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def database() -> DatabaseRuns:
    file = settings.sqlite_path(settings.tracking_uri())
    assert file
    return DatabaseRuns(file)


def comparable(run: StoredRun) -> tuple[StoredRun, str]:
    """A run with a text for its metrics, as NaN differs from itself."""
    return StoredRun(**{**vars(run), "metrics": {}}), str(sorted(run.metrics.items()))


@pytest.mark.parametrize("experiment", [None, "dev", "prod", "old", "none"])
@pytest.mark.parametrize("metric", [None, "f1", "rmse", "r2"])
@pytest.mark.parametrize("prefix", ["", "2026010", "20260103-a", "2027"])
def test_the_same_runs_in_the_same_order(experiment: str | None, metric: str | None, prefix: str):
    ours, theirs = (
        [comparable(run) for run in runs.search(experiment, metric, prefix)]
        for runs in (database(), ServerRuns())
    )
    assert ours == theirs


def test_runs_of_steps_and_deleted_runs_are_left_out():
    assert len(list(database().search())) == 7
    best = [run.pipeline_run for run in database().search("dev", "f1")][:2]
    assert sorted(best) == ["20260100-a", "20260104-a"]


def test_the_same_experiments():
    assert database().experiments() == ServerRuns().experiments() >= {"dev", "prod"}


def test_the_same_record_of_a_run_without_a_summary():
    ours, theirs = (
        runs.read(next(runs.search(prefix="20260104-a"))) for runs in (database(), ServerRuns())
    )
    assert ours == theirs
    assert (ours.project, ours.commit, ours.dirty, ours.metrics["f1"]) == ("p", "c0ffee", True, 0.5)


def test_a_damaged_record_counts_as_absent(capsys: pytest.CaptureFixture[str]):
    run = next(database().search(prefix="20260104-a"))
    store.client().log_text(run.id, "{", "summary.json")
    assert database().read(run).status == ServerRuns().read(run).status == "failed"
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert len({re.sub(r"\S+summary.json", "", warning) for warning in warnings}) == 1
