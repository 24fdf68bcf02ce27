"""Trains a sweep's best trial on all training rows, as a run of its own."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import mlflow

from pipeline.config.job import new_run_id
from pipeline.config.overrides import quoted
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import read_record
from pipeline.core.results import SUMMARY
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.orchestration.execution import processes
from pipeline.sweeps import summary
from pipeline.sweeps.record import TrialRecord
from pipeline.tracking import Tracker
from pipeline.tracking.mlflow import registration

REFIT = "pipeline.refit"  # on the sweep's run: the run; on the model's version: sweep and trial
KEPT = ("TMPDIR", settings.SYSTEM_TMPDIR, settings.UMASK)  # so that the run ends with the sweep


def refit(
    trial: TrialRecord,
    metric: str,
    *,
    sweep: str,
    mlflow_run: str,
    runs: Path,
    tracker: Tracker,
    variables: Mapping[str, str],
) -> None:
    """Run the pipeline with a trial's overrides and no rows held out; its model is the candidate.

    Args:
        trial: the sweep's best trial.
        metric: the metric that trials are compared by, such as ``val_f1``.
        sweep: the sweep's id.
        mlflow_run: the id of the sweep's run in MLflow.
        runs: the folder of all runs.
        tracker: the tracker that has the model's artifact.
        variables: the environment variables at the start of the sweep.

    Raises:
        PipelineError: The run failed.
    """
    id = new_run_id()
    say(f"the best trial ({trial.number}) is trained on all training rows:", flush=True)
    arguments = [*summary.refit_overrides(trial), f"hydra.run.dir={quoted(str(runs / id))}"]
    kept_variables = {name: os.environ[name] for name in KEPT if name in os.environ}
    start_variables = {name: text for name, text in variables.items() if name != "HYDRA_FULL_ERROR"}
    if processes.launch(ROOT, arguments, {**start_variables, **kept_variables}):
        raise PipelineError(
            f"the best trial ({trial.number}) could not be trained on all training rows",
            "the reason is above; the same command retries it, search.refit=false skips it",
        )
    steps = (read_record(runs / id / SUMMARY, "steps") or {"steps": {}})["steps"].values()
    trained = [step for step in steps if step["metrics"].keys() & trial.metrics.keys()]
    if not trained:
        return
    mlflow.MlflowClient(settings.tracking_uri()).set_tag(mlflow_run, REFIT, id)
    tags = {REFIT: f"{sweep} trial {trial.number}", f"metric.{metric}": repr(trial.value)}
    for artifact in registration.nominate(trained[-1]["mlflow_run"], tags):
        try:
            tracker.set_alias(artifact, registration.CANDIDATE)
        except PipelineError as error:  # a Trackio server can't move an alias back; no failure
            say(f"warning: the tracker's alias is not moved: {error.what}", file=sys.stderr)
