"""A sweep in MLflow: one run, with a run for each trial below it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT
from omegaconf import DictConfig, OmegaConf

from pipeline.config import job
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.metrics import METRICS
from pipeline.core.results import ERROR_TAG
from pipeline.orchestration.dead_runs import mark_dead
from pipeline.orchestration.execution import mlflow_project
from pipeline.orchestration.execution.processes import MLFLOW_RUN, Marker
from pipeline.provenance import origin
from pipeline.tracking.mlflow import store as mlflow_store

KIND, OBJECTIVE = "pipeline.kind", "objective"


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it is in MLflow.

    Attributes:
        value: what ``go()`` returned: the metric that trials are compared by.
        seconds: how long it took, None if that is not known.
        overrides: the words that made it what it is, as Hydra takes them.
    """

    number: int
    state: str
    run: str
    parameters: Mapping[str, str]
    value: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    error: str = ""
    overrides: Sequence[str] = ()

    @property
    def is_done(self) -> bool:
        """Whether it need not be run again; its process may have gone before it told its value."""
        told = self.value is not None or set(METRICS).isdisjoint(self.metrics)
        return self.state == "FINISHED" and told


def begin(config: DictConfig, marker: Marker, commit: origin.Commit | None) -> str:
    """Make the sweep's run; its id in MLflow."""
    experiment = mlflow_store.connect(config.main.experiment_name)
    mark_dead()
    client = mlflow.MlflowClient()
    tags = {
        KIND: "sweep",
        job.SWEEP: marker.id,
        job.OVERRIDES: " ".join(trial.raw_overrides(config.hydra.overrides.task)),
        "developer": origin.developer(),
    }
    if commit:
        tags |= {MLFLOW_GIT_COMMIT: commit.sha, "git.dirty": str(commit.dirty).lower()}
    run = client.create_run(experiment, run_name=f"sweep-{marker.id}", tags=tags).info.run_id
    marker.note(**{MLFLOW_RUN: run})
    shown = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    client.log_text(run, OmegaConf.to_yaml(shown), "config.yaml")
    return run


def resume(marker: Marker, run: str) -> list[int]:
    """Open a sweep's run again; the numbers of the trials that are finished.

    Raises:
        PipelineError: the run is gone from MLflow.
    """
    client = mlflow_store.client()
    mark_dead()
    try:
        client.update_run(run, "RUNNING")
    except mlflow.exceptions.MlflowException as error:
        raise PipelineError(
            f"sweep {marker.id} was interrupted, and its run is gone from MLflow ({run})",
            f"to begin anew, remove its file in {settings.state_dir() / 'sweeps'}",
        ) from error
    marker.note(**{MLFLOW_RUN: run})
    return [one.number for one in _trials(client, run) if one.is_done]


def log_objective(run: str, value: Any) -> None:
    """Note what a trial came to."""
    if isinstance(value, float):
        mlflow.MlflowClient().log_metric(run, OBJECTIVE, value)


def record_refused(told: job.Trial, error: Exception) -> None:
    """Record a trial that failed before its run had begun."""
    client = mlflow.MlflowClient(settings.tracking_uri())
    experiment = client.get_run(told.parent).info.experiment_id
    tags = told.tags() | {ERROR_TAG: str(error)[: mlflow_project.LONGEST_PARAMETER]}
    name = f"{told.sweep}-{told.number}"
    run = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    for key, value in told.parameters.items():
        client.log_param(run, key, value)
    client.set_terminated(run, "FAILED")


def end(run: str) -> list[TrialRecord]:
    """End a sweep's run, and any of a trial whose process has gone; its trials."""
    client = mlflow.MlflowClient(settings.tracking_uri())
    parent = client.get_run(run)
    _kill_trials(client, parent)
    found = _trials(client, run)
    good = any(one.state == "FINISHED" for one in found)
    client.set_terminated(run, "FINISHED" if good else "FAILED")
    return found


def mark_interrupted(run: str) -> None:
    """A sweep that did not come to its end."""
    client = mlflow.MlflowClient(settings.tracking_uri())
    parent = client.get_run(run)
    _kill_trials(client, parent)
    mlflow_store.kill_run(client, parent)


def _kill_trials(client: mlflow.MlflowClient, sweep: Run) -> None:
    """Mark as KILLED the trials that are said to run, and their steps: their processes are gone."""
    for one in mlflow_store.children(client, sweep.info.experiment_id, sweep.info.run_id):
        if one.info.status == "RUNNING":
            mlflow_store.kill_run(client, one)


def trials_of(run: str) -> list[TrialRecord]:
    """The trials of a sweep, as far as it has come."""
    return _trials(mlflow.MlflowClient(settings.tracking_uri()), run)


def _trials(client: mlflow.MlflowClient, run: str) -> list[TrialRecord]:
    """The trials of a sweep by number; of one that was tried again, the last that was finished."""
    experiment = client.get_run(run).info.experiment_id
    children = mlflow_store.children(client, experiment, run)
    latest: dict[int, Run] = {}
    for child in sorted(children, key=lambda r: (r.info.status == "FINISHED", r.info.start_time)):
        latest[int(child.data.tags[job.NUMBER])] = child
    return [_trial_record(number, child) for number, child in sorted(latest.items())]


def _trial_record(number: int, run: Run) -> TrialRecord:
    info, data = run.info, run.data
    seconds = (info.end_time - info.start_time) / 1000 if info.end_time else None
    overrides = json.loads(data.tags[job.OVERRIDES])
    return TrialRecord(
        number,
        info.status,
        info.run_id,
        job.parameters(overrides),
        data.metrics.get(OBJECTIVE),
        {key: value for key, value in data.metrics.items() if key != OBJECTIVE},
        seconds,
        data.tags.get(ERROR_TAG, "cut off" if info.status == "KILLED" else ""),
        overrides,
    )
