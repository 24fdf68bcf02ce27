"""Finds the previous report to compare with, and the commands that reproduce a report."""

import argparse
import hashlib
import json
import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline import steps
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.science.data import tables
from pipeline.tracking import Artifact

LOOK_BACK = 50  # versions to search for a report on the same target
SUBJECT = ("model", "train", "test")  # the artifacts that a report describes


def subject(artifacts: Mapping[str, Artifact]) -> str:
    """The combined digest of the model and the data of a report."""
    digests = " ".join(artifacts[role].digest for role in SUBJECT)
    return hashlib.sha256(digests.encode()).hexdigest()


def previous_report(
    run: steps.Run, args: argparse.Namespace, target: str, subject: str
) -> Artifact | None:
    """The report to compare with: the configured report, else the last one on another model.

    A repeated report on the same model and data is compared with the same previous report as
    before, so that it is reproducible.

    Args:
        run: the step's run.
        args: the step's arguments.
        target: the column that the model predicts.
        subject: from :func:`subject`.

    Raises:
        PipelineError: the configured report does not exist.
    """
    if args.previous:
        previous = run.find(args.previous)
        if previous is None:
            raise PipelineError(
                f"report.previous={args.previous!r} was not found", "check its name and version"
            )
        return previous
    latest = run.find(f"{args.artifact_name}:latest")
    newest = int(latest.version.removeprefix("v")) if latest else -1
    for number in range(newest, max(newest - LOOK_BACK, -1), -1):
        report = latest if number == newest else run.find(f"{args.artifact_name}:v{number}")
        if report and report.metadata.get("target") == target:
            reference = report.reference
            if report.metadata["subject"] == subject:
                reference = report.metadata["previous"]
            return run.find(reference) if reference else None
    return None


def previous_training_data(
    run: steps.Run, before: Artifact | None, train: Artifact
) -> tuple[pd.DataFrame | None, str]:
    """The training data of the previous report, if it differs; and a sentence about it.

    Args:
        run: the step's run.
        before: the report to compare with.
        train: the training data of this report.
    """
    if before is None:
        return None, "There is no previous run whose training data could be compared."
    previous_train = run.find(before.metadata.get("train"))
    if previous_train is None:
        return None, f"The training data of {before.reference} is not known."
    if previous_train.digest == train.digest:
        return None, f"The model of {before.reference} was fitted on the same training data."
    artifact = run.use_artifact(previous_train.reference)
    table = tables.read_table(artifact.file(), schema=artifact.schema())
    comparison = f"{train.reference} compared with {previous_train.reference}"
    return table, f"{comparison}, of {before.reference}:"


def commands(
    args: argparse.Namespace,
    parser: argparse.ArgumentParser,
    raw: Artifact | None,
    context: steps.StepContext,
) -> dict[str, Any]:
    """The commands that reproduce the report (``alone``) and, if known, the model (``whole``).

    Args:
        args: the step's arguments.
        parser: the step's parser, for the default values.
        raw: the raw data, if it is known.
        context: the code and the overrides of the pipeline's run.
    """
    setup = "source .venv/bin/activate"
    step_command = ["mlflow", "run", "5-Report", "--env-manager=uv"]
    actions = parser._actions  # noqa: SLF001 - argparse lists them nowhere else
    required = [f"{action.option_strings[0]}=" for action in actions if action.required]
    defaults = vars(parser.parse_args(required))
    for key, value in vars(args).items():
        if value != defaults[key]:
            step_command += [
                "-P",
                f"{key}={value if isinstance(value, str) else json.dumps(value)}",
            ]
    if settings.project() != settings.DEFAULT_PROJECT:
        step_command = ["env", f"WANDB_PROJECT={settings.project()}", *step_command]
    commit = context.snapshot if context.dirty and context.snapshot else context.commit
    pipeline_commands: list[str] = []
    if context.overrides is not None:
        overrides = list(context.overrides)
        if raw and not any(word.startswith("data.sha256=") for word in overrides):
            overrides.append(f"data.sha256={raw.digest}")  # refuse any other content
        checkout = [f"git checkout {commit}"] if commit else []
        run = shlex.join(["python", "main.py", *overrides])
        pipeline_commands = [*checkout, "make .venv/complete", setup, run]
    return {
        "alone": [setup, shlex.join(step_command)],
        "whole": pipeline_commands,
        "dirty": context.dirty and not context.snapshot,
    }
