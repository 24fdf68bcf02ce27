"""What a report says beside its numbers: the report before it, and how to make it again."""

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

LOOK_BACK = 50  # so many versions, for one about the same target
SUBJECT = ("model", "train", "test")  # what a report is about


def subject(artifacts: Mapping[str, Artifact]) -> str:
    """One digest of the model and the data that a report is about."""
    digests = " ".join(artifacts[role].digest for role in SUBJECT)
    return hashlib.sha256(digests.encode()).hexdigest()


def before(run: steps.Run, args: argparse.Namespace, target: str, subject: str) -> Artifact | None:
    """The report to compare with: the one that was named, or the last about another model.

    A report made again about the same model and data is compared with what that one was, so that
    it comes out the same.

    Args:
        run: the step's run.
        args: the step's arguments.
        target: the column that the model predicts.
        subject: from :func:`subject`.

    Raises:
        PipelineError: the report that was named does not exist.
    """
    if args.previous:
        named = run.find(args.previous)
        if named is None:
            raise PipelineError(
                f"report.previous={args.previous!r} was not found", "check its name and version"
            )
        return named
    latest = run.find(f"{args.artifact_name}:latest")
    newest = int(latest.version.removeprefix("v")) if latest else -1
    for number in range(newest, max(newest - LOOK_BACK, -1), -1):
        report = latest if number == newest else run.find(f"{args.artifact_name}:v{number}")
        if report and report.metadata.get("target") == target:
            earlier = report.reference
            if report.metadata["subject"] == subject:
                earlier = report.metadata["previous"]
            return run.find(earlier) if earlier else None
    return None


def earlier(
    run: steps.Run, before: Artifact | None, train: Artifact
) -> tuple[pd.DataFrame | None, str]:
    """The training data of the report before, if it was other data; and a sentence about it.

    Args:
        run: the step's run.
        before: the report to compare with.
        train: the training data of this one.
    """
    if before is None:
        return None, "There is no previous run whose training data could be compared."
    known = run.find(before.metadata.get("train"))
    if known is None:
        return None, f"The training data of {before.reference} is not known."
    if known.digest == train.digest:
        return None, f"The model of {before.reference} was fitted on the same training data."
    read = run.use_artifact(known.reference)
    table = tables.read_table(read.file(), schema=read.schema())
    return table, f"{train.reference} compared with {known.reference}, of {before.reference}:"


def commands(
    args: argparse.Namespace,
    parser: argparse.ArgumentParser,
    raw: Artifact | None,
    context: steps.StepContext,
) -> dict[str, Any]:
    """What to type to get the same model, if that is known, and the same report.

    Args:
        args: the step's arguments.
        parser: the step's, for the arguments that need not be given.
        raw: the data set, if it is known.
        context: the code and the overrides of the pipeline's run.
    """
    setup = "source .venv/bin/activate"
    alone = ["mlflow", "run", "5-Report", "--env-manager=uv"]
    actions = parser._actions  # noqa: SLF001 - argparse lists them nowhere else
    required = [f"{action.option_strings[0]}=" for action in actions if action.required]
    defaults = vars(parser.parse_args(required))
    for key, value in vars(args).items():
        if value != defaults[key]:
            alone += ["-P", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    if settings.project() != settings.DEFAULT_PROJECT:
        alone = ["env", f"WANDB_PROJECT={settings.project()}", *alone]
    commit = context.snapshot if context.dirty and context.snapshot else context.commit
    whole: list[str] = []
    if context.overrides is not None:
        words = list(context.overrides)
        if raw and not any(word.startswith("data.sha256=") for word in words):
            words.append(f"data.sha256={raw.digest}")  # the very same bytes, or none
        checkout = [f"git checkout {commit}"] if commit else []
        run = shlex.join(["python", "main.py", *words])
        whole = [*checkout, "make .venv/complete", setup, run]
    return {
        "alone": [setup, shlex.join(alone)],
        "whole": whole,
        "dirty": context.dirty and not context.snapshot,
    }
