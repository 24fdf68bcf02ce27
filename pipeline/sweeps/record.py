"""Reads and writes a sweep's MLflow run and its trials, which are child runs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
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
    """A trial's MLflow run.

    Attributes:
        value: the objective that ``go()`` returned; None if there is none.
        seconds: the duration; None if unknown.
        overrides: the trial's Hydra overrides.
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
    def objective(self) -> float:
        """The value as a number: NaN if there is none."""
        return math.nan if self.value is None else self.value

    @property
    def is_done(self) -> bool:
        """Whether the trial finished and, if it has metrics, logged its objective before a kill."""
        has_value = self.value is not None or set(METRICS).isdisjoint(self.metrics)
        return self.state == "FINISHED" and has_value


def begin(config: DictConfig, marker: Marker, commit: origin.Commit | None) -> str:
    """Create the sweep's run in MLflow; return its id."""
    experiment = mlflow_store.connect(config.main.experiment_name)
    mark_dead()
    client = mlflow.MlflowClient()
    tags = {
        KIND: "sweep",
        job.SWEEP: marker.id,
        job.OVERRIDES: " ".join(job.raw_overrides(config.hydra.overrides.task)),
        "developer": origin.developer(),
    }
    if commit:
        tags |= {MLFLOW_GIT_COMMIT: commit.sha, "git.dirty": str(commit.dirty).lower()}
    run = client.create_run(experiment, run_name=f"sweep-{marker.id}", tags=tags).info.run_id
    marker.note(**{MLFLOW_RUN: run})
    recorded_config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    client.log_text(run, OmegaConf.to_yaml(recorded_config), "config.yaml")
    return run


def resume(marker: Marker, run: str) -> list[int]:
    """Resume a sweep's run; return the numbers of its finished trials.

    A trial that finished without its objective is set to KILLED, as it runs again.

    Raises:
        PipelineError: The run is gone from MLflow.
    """
    client = mlflow_store.client()
    mark_dead()
    try:
        client.update_run(run, "RUNNING")
    except MlflowException as error:
        raise PipelineError(
            f"sweep {marker.id} was interrupted, and its run is gone from MLflow ({run})",
            f"to start anew, remove its file in {settings.state_dir() / 'sweeps'}",
        ) from error
    marker.note(**{MLFLOW_RUN: run})
    finished = [trial for trial in _trials(client, run) if trial.state == "FINISHED"]
    for trial in finished:
        if not trial.is_done:
            client.set_terminated(trial.run, "KILLED")
    return [trial.number for trial in finished if trial.is_done]


def log_objective(run: str, value: Any) -> None:
    """Log a trial's objective, if it is a number."""
    if isinstance(value, float):
        mlflow.MlflowClient().log_metric(run, OBJECTIVE, value)


def record_refused(trial: job.Trial, error: Exception) -> None:
    """Record a trial that failed before its MLflow run started."""
    client = mlflow.MlflowClient(settings.tracking_uri())
    experiment = client.get_run(trial.parent).info.experiment_id
    tags = trial.tags() | {ERROR_TAG: str(error)[: mlflow_project.LONGEST_PARAMETER]}
    name = f"{trial.sweep}-{trial.number}"
    run = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    for key, value in trial.parameters.items():
        client.log_param(run, key, value)
    client.set_terminated(run, "FAILED")


def end(run: str) -> list[TrialRecord]:
    """End a sweep's run and all runs of dead trials; return its trials."""
    client = mlflow.MlflowClient(settings.tracking_uri())
    parent = client.get_run(run)
    _kill_trials(client, parent)
    trials = _trials(client, run)
    succeeded = any(trial.state == "FINISHED" for trial in trials)
    client.set_terminated(run, "FINISHED" if succeeded else "FAILED")
    return trials


def mark_interrupted(run: str) -> None:
    """Mark an interrupted sweep and its running trials as KILLED."""
    client = mlflow.MlflowClient(settings.tracking_uri())
    parent = client.get_run(run)
    _kill_trials(client, parent)
    mlflow_store.kill_run(client, parent)


def _kill_trials(client: mlflow.MlflowClient, sweep: Run) -> None:
    """Mark trials that are RUNNING as KILLED with their steps; their processes have ended."""
    for run in mlflow_store.children(client, sweep.info.experiment_id, sweep.info.run_id):
        if run.info.status == "RUNNING":
            mlflow_store.kill_run(client, run)


def trials_of(run: str) -> list[TrialRecord]:
    """The trials of a sweep that have an MLflow run so far."""
    return _trials(mlflow.MlflowClient(settings.tracking_uri()), run)


def _trials(client: mlflow.MlflowClient, run: str) -> list[TrialRecord]:
    """The trials of a sweep by number; of a retried trial, preferably the last finished run."""
    experiment = client.get_run(run).info.experiment_id
    children = mlflow_store.children(client, experiment, run)
    children.sort(key=lambda child: (child.info.status == "FINISHED", child.info.start_time))
    latest: dict[int, Run] = {}
    for child in children:
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
