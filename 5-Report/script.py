"""Write an HTML report on a model: its metrics, its data and how to reproduce it."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import gathering

from pipeline import steps
from pipeline.core import settings
from pipeline.core.results import MEASUREMENTS
from pipeline.reporting import report
from pipeline.science import model_files
from pipeline.science.data import kinds, tables
from pipeline.science.inspection import report_data


def go(args: argparse.Namespace, run: steps.Run) -> None:
    """Read the model and both parts, measure, write the report, and log it."""
    required, optional = gathering.SUBJECT, ("clean", "raw")
    artifacts = {role: run.use_artifact(getattr(args, f"{role}_artifact")) for role in required}
    others = {role: run.find(getattr(args, f"{role}_artifact")) for role in optional}
    model = model_files.load(artifacts["model"].file(), args.allowed)
    schema = artifacts["train"].schema()
    train = tables.read_table(artifacts["train"].file(), schema=schema)
    text_columns = train.select_dtypes("str").columns
    test = tables.read_table(artifacts["test"].file(), text_columns, schema)
    target = artifacts["model"].metadata.get("target", "")
    feature_kinds, _ = kinds.features(schema, target or "", [], []) if schema else ({}, {})
    for part, name in ((train, args.train_artifact), (test, args.test_artifact)):
        report_data.check_target(target, part, args.model_artifact, name)
    subject = gathering.subject(artifacts)
    previous = gathering.previous_report(run, args, target, subject)
    previous_rows, drift_note = gathering.previous_training_data(run, previous, artifacts["train"])
    contents = report_data.collect(
        model,
        train,
        test,
        kinds=feature_kinds,
        target=target,
        train_name=args.train_artifact,
        test_name=args.test_artifact,
        identifier=args.identifier,
        mistakes_shown=args.mistakes,
        resamples=args.resamples,
        random_state=args.random_state,
        positive=artifacts["model"].metadata.get("positive"),
        cleaning=others["clean"].metadata if others["clean"] else {},
        costs=args.costs,
        earlier=previous_rows,
    )
    html = report.render(
        contents,
        artifacts | others,
        project=settings.project(),
        before=previous,
        name=args.artifact_name,
        drift_note=drift_note,
        commands=gathering.commands(args, arguments(), others["raw"], run.context),
    )
    path = run.folder / args.artifact_name
    path.write_text(html, encoding="utf-8")
    run.log_artifact(
        path,
        name=args.artifact_name,
        type=args.artifact_type,
        description=args.artifact_description,
        metadata={
            "subject": subject,
            "target": target,
            "metrics": contents["metrics"],
            "intervals": contents["intervals"],
            "model": artifacts["model"].reference,
            "test": artifacts["test"].digest,
            "train": artifacts["train"].reference,
            "previous": previous.reference if previous else None,
        },
    )
    run.log({"report": path})
    run.keep(path)
    measurements = run.folder / MEASUREMENTS
    measurements.write_text(json.dumps(report_data.for_comparison(contents)), encoding="utf-8")
    run.keep(measurements)


def arguments() -> argparse.ArgumentParser:
    """The step's parameters; MLproject has the same ones."""
    parser = steps.parser(__doc__)
    add, text = parser.add_argument, "Metrics and errors of the model and how it was made"
    add("--model_artifact", required=True, help="the model, as name:version")
    add("--train_artifact", required=True, help="training data, as name:version")
    add("--test_artifact", required=True, help="test data, as name:version")
    add("--clean_artifact", type=steps.optional, default="", help="clean data, if known")
    add("--raw_artifact", type=steps.optional, default="", help="raw data, if known")
    add("--allowed", type=steps.json_list, default='["sklearn"]', help="JSON: packages to trust")
    add("--artifact_name", default="report.html", help="the report's name")
    add("--artifact_type", default="report", help="its type")
    add("--artifact_description", default=text, help="a sentence about it")
    add("--identifier", type=steps.optional, default="", help="column that names a row")
    add("--mistakes", type=int, default=20, help="most mistakes to list")
    add("--resamples", type=int, default=1000, help="resamples for intervals")
    add("--random_state", type=int, default=42, help="seed of the resamples")
    add("--costs", type=steps.json_value, default="", help="JSON: costs of mistakes")
    add("--previous", type=steps.optional, default="", help="report to compare with")
    return parser


def main() -> None:
    """Run the step."""
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
