"""Trains a sweep's best trial for good: on all training rows, as a run of its own."""

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
OURS = ("TMPDIR", settings.SYSTEM_TMPDIR, settings.UMASK)  # so that the run ends with the sweep


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
    """Run the pipeline as a trial did, with no rows held out; its model is the candidate.

    Args:
        trial: the sweep's best trial.
        metric: what trials are compared by, such as ``val_f1``.
        sweep: the sweep's id.
        mlflow_run: its run in MLflow.
        runs: the folder of all runs.
        tracker: has the model's artifact.
        variables: the environment variables that the sweep was started with.

    Raises:
        PipelineError: the run has failed and says why.
    """
    id = new_run_id()
    say(f"trial {trial.number}, the best one, is trained on all training rows:", flush=True)
    words = [*summary.words(trial), f"hydra.run.dir={quoted(str(runs / id))}"]
    ours = {name: os.environ[name] for name in OURS if name in os.environ}
    started = {name: text for name, text in variables.items() if name != "HYDRA_FULL_ERROR"}
    if processes.launch(ROOT, words, {**started, **ours}):
        raise PipelineError(
            f"trial {trial.number}, the best one, could not be trained on all training rows",
            "the reason is above; the same command tries again, search.refit=false does without",
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
        except PipelineError as error:  # the registry counts; a Trackio server can't move it back
            say(f"warning: the tracker's alias is not moved: {error.what}", file=sys.stderr)
