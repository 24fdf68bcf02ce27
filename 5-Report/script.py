"""Write one HTML file that says what a model is worth, how it was made and from what."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import argparse
import hashlib
import json
import os
import shlex
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import steps
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.science import model_files, report_data
from pipeline.science.tables import read_table
from pipeline.tracking import Artifact

HERE = Path(__file__).resolve().parent
LOOK_BACK = 50  # so many versions, for one about the same target
REQUIRED = ("model", "train", "test")
DATA_STEPS = ("1-Download_data", "2-ETL", "3-Split_dataset", "4-Training_model")


def contents(
    args: argparse.Namespace,
    model: Any,
    train: pd.DataFrame,
    test: pd.DataFrame,
    known: dict[str, Artifact | None],
    earlier: Artifact | None,
) -> dict[str, Any]:
    """All that the template is told.

    Args:
        args: the step's arguments.
        model: the fitted pipeline.
        train, test: what it was fitted and is measured on.
        known: the artifacts ``raw``, ``clean``, ``train``, ``test`` and ``model``.
        earlier: the report to compare with.
    """
    target = known["model"].metadata["target"]
    features = report_data.inputs(model, test, args.test_artifact)
    of, names = report_data.names_of_rows(test, [*features.columns, target], args.identifier)
    told = report_data.measured(model, features, test[target], args.resamples, args.random_state)
    cleaning = known["clean"].metadata if known["clean"] else {}
    before = earlier.metadata if earlier else {}
    return told | {
        "project": settings.project(),
        "target": target,
        "estimator": known["model"].metadata.get("estimator", ""),
        "model": known["model"],
        "test": known["test"],
        "split": known["test"].metadata,
        "rows": {"training": len(train), "test": len(test)},
        "resamples": args.resamples,
        "random_state": args.random_state,
        "before": earlier,
        "same_test": before.get("test") == known["test"].digest,
        "changes": report_data.changes(told["metrics"], before.get("metrics", {})),
        "named_by": of,
        "mistakes": report_data.mistakes(names, told, args.mistakes),
        "wrong": int((told["truth"] != told["predicted"]).sum()),
        "quality": report_data.quality(train, test, features.columns, cleaning),
        "columns": report_data.describe(pd.concat([train, test]), features.columns, target),
        "parts": report_data.parts(train[target], test[target], bool(told["classes"])),
        "lineage": lineage(known),
        "commands": commands(args, known["raw"]),
    }


def lineage(known: dict[str, Artifact | None]) -> list[dict[str, Any]]:
    """The steps, and the exact versions that each one made."""
    groups = [["raw"], ["clean"], ["train", "test"], ["model"]]
    levels = []
    for name, group in zip(DATA_STEPS, groups, strict=True):
        found = [known[key] for key in group if known[key]]
        if found:
            levels.append({"step": name, "artifacts": found})
    return levels


def commands(args: argparse.Namespace, raw: Artifact | None) -> dict[str, Any]:
    """What to type to get the same model, if that is known, and the same report."""
    setup = "source .venv/bin/activate"
    alone = ["mlflow", "run", "5-Report", "--env-manager=uv"]
    defaults = vars(arguments().parse_args([f"--{key}_artifact=" for key in REQUIRED]))
    for key, value in vars(args).items():
        if value != defaults[key]:
            alone += ["-P", f"{key}={value}"]
    if settings.project() != settings.DEFAULT_PROJECT:
        alone = ["env", f"WANDB_PROJECT={settings.project()}", *alone]
    found: dict[str, Any] = {"alone": [setup, shlex.join(alone)], "whole": []}
    dirty, kept = os.environ.get(settings.GIT_DIRTY) == "true", os.environ.get(settings.SNAPSHOT)
    commit = kept if dirty and kept else os.environ.get(settings.GIT_COMMIT)
    told = os.environ.get(settings.OVERRIDES)
    if told:
        words = json.loads(told)
        if raw and not any(word.startswith("data.sha256=") for word in words):
            words.append(f"data.sha256={raw.digest}")  # the very same bytes, or none
        checkout = [f"git checkout {commit}"] if commit else []
        run = shlex.join(["python", "main.py", *words])
        found["whole"] = [*checkout, "make .venv/complete", setup, run]
    found["dirty"] = dirty and not kept
    return found


def before(
    run: steps.StepRun, args: argparse.Namespace, target: str, subject: str
) -> Artifact | None:
    """The report to compare with: the one that was named, or the last about another model.

    A report made again about the same model and data is compared with what that one was, so that
    it comes out the same.
    """
    if args.previous:
        found = run.find(args.previous)
        if found is None:
            raise PipelineError(
                f"report.previous={args.previous!r} was not found", "check its name and version"
            )
        return found
    latest = run.find(f"{args.artifact_name}:latest")
    newest = int(latest.version.removeprefix("v")) if latest else -1
    for number in range(newest, max(newest - LOOK_BACK, -1), -1):
        found = latest if number == newest else run.find(f"{args.artifact_name}:v{number}")
        if found and found.metadata.get("target") == target:
            earlier = found.reference
            if found.metadata["subject"] == subject:
                earlier = found.metadata["previous"]
            return run.find(earlier) if earlier else None
    return None


def metric(value: float) -> str:
    """A metric in a column of its kind: three decimals while that is not too long."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def render(told: dict[str, Any]) -> str:
    """The report: one HTML file that needs nothing else."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: "–" if value is None else f"{value:.4g}"
    environment.filters["metric"] = lambda value: "–" if value is None else metric(value)
    environment.filters["signed"] = lambda value: ("−" if value < 0 else "+") + metric(abs(value))
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
    return environment.get_template("report.html").render(told)


def go(args: argparse.Namespace, run: steps.StepRun) -> None:
    """Read the model and both parts, measure, write the report, and log it."""
    known = {name: run.use(getattr(args, f"{name}_artifact")) for name in REQUIRED}
    for name in ("clean", "raw"):
        reference = getattr(args, f"{name}_artifact")
        known[name] = run.find(reference) if reference else None
    model = model_files.load(known["model"].file, args.allowed or [])
    train = read_table(known["train"].file)
    test = read_table(known["test"].file, text_columns=train.select_dtypes("str").columns)
    target = known["model"].metadata.get("target")
    if target not in test:
        raise PipelineError(
            f"{args.model_artifact} predicts {target!r}, which {args.test_artifact} lacks",
            "name the data and the model of one run",
        )
    identity = " ".join(known[name].digest for name in REQUIRED)
    subject = hashlib.sha256(identity.encode()).hexdigest()
    earlier = before(run, args, target, subject)
    told = contents(args, model, train, test, known, earlier)
    path = run.folder / args.artifact_name
    path.write_text(render(told), encoding="utf-8")
    run.log_artifact(
        path,
        name=args.artifact_name,
        type=args.artifact_type,
        description=args.artifact_description,
        metadata={
            "subject": subject,
            "target": target,
            "metrics": told["metrics"],
            "intervals": told["intervals"],
            "model": known["model"].reference,
            "test": known["test"].digest,
            "previous": earlier.reference if earlier else None,
        },
    )
    run.keep(path)


def arguments():
    """The step's parameters; MLproject has the same ones."""
    parser = steps.parser(__doc__)
    parser.add_argument("--model_artifact", required=True, help="the model, as name:version")
    parser.add_argument("--train_artifact", required=True, help="what it was fitted on")
    parser.add_argument("--test_artifact", required=True, help="what it is measured on")
    parser.add_argument(
        "--clean_artifact", type=steps.optional, default="", help="the whole of both, if known"
    )
    parser.add_argument(
        "--raw_artifact", type=steps.optional, default="", help="what was cleaned, if known"
    )
    parser.add_argument(
        "--allowed",
        type=steps.json_value,
        default='["sklearn"]',
        help="JSON list of packages whose types the model may hold",
    )
    parser.add_argument("--artifact_name", default="report.html", help="the report's name")
    parser.add_argument("--artifact_type", default="report", help="its type")
    parser.add_argument(
        "--artifact_description",
        default="What the model is worth and how it was made",
        help="a sentence about it",
    )
    parser.add_argument(
        "--identifier",
        type=steps.optional,
        default="",
        help="column that names a row; empty: the first unused one of words all different",
    )
    parser.add_argument("--mistakes", type=int, default=20, help="how many are listed at most")
    parser.add_argument("--resamples", type=int, default=1000, help="of the test rows")
    parser.add_argument("--random_state", type=int, default=42, help="seed of their draw")
    parser.add_argument(
        "--previous",
        type=steps.optional,
        default="",
        help="the report to compare with; empty: the last about another model",
    )
    return parser


def main() -> None:
    """Run the step."""
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
