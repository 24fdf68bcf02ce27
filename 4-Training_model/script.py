"""Fit a scikit-learn pipeline, measure it on the test data, and register the model."""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import steps
from pipeline.core.metrics import LOSS
from pipeline.reporting import figures
from pipeline.science import evaluation, model_files
from pipeline.science.data import tables
from pipeline.science.plan import SETTINGS, plan
from pipeline.tracking import Chart
from pipeline.tracking.mlflow import datasets as mlflow_datasets
from pipeline.tracking.mlflow import model as mlflow_model
from pipeline.tracking.mlflow import registration as mlflow_registration


def go(args: argparse.Namespace, run: steps.Run) -> None:
    """Read both parts, fit, measure, draw, and log to the tracker and to MLflow."""
    data = {role: run.use_artifact(getattr(args, f"{role}_artifact")) for role in ("train", "test")}
    files = {role: artifact.file() for role, artifact in data.items()}
    planned = plan(files, data["train"].schema(), **{key: vars(args)[key] for key in SETTINGS})
    for line, warning in planned.notes:
        run.note(line, warning)
    losses: list[float] = []
    trained = planned.fit(partial(follow, run, losses))
    run.summary.pop(LOSS, None)  # losses of different estimators are not comparable
    for line in evaluation.class_notes(trained.predictions):
        run.note(line, warning=True)
    figure_files = figures.draw(trained.predictions, trained.importances, run.folder)
    preparation = model_files.write_preparation(
        run.folder,
        features=trained.kinds,
        cleaning=tables.by_names(args.cleaning),
        **planned.preparation,
    )
    parts = {args.preprocessor_artifact_name: trained.model[:-1], args.artifact_name: trained.model}
    files = {name: model_files.save(part, run.folder / f"{name}.skops")
             for name, part in parts.items()}  # fmt: skip
    logged_model = mlflow_model.publish(
        run.job_type,
        trained.model,
        files[args.artifact_name],
        trained.features,
        preparation,
        preprocessor=files[args.preprocessor_artifact_name],
        allowed=args.allowed,
        params={**vars(args), "estimator": planned.path, "estimator.class": planned.path},
        metrics=trained.metrics,
        folds=trained.folds,
        losses=losses,
        figures=figure_files,
        inputs=[
            mlflow_datasets.of_artifact(data[role], role, part, run.tracker.store)
            for role, part in (("train", planned.train), ("test", planned.test))
        ],
    )
    run.log({**trained.metrics, **figure_files, **trained.tables(planned.test)})
    run.log({name: Chart(table) for name, table in evaluation.charts(trained.predictions).items()})
    run.log_artifact(
        files[args.preprocessor_artifact_name],
        name=args.preprocessor_artifact_name,
        type="preprocessor",
        description=f"Features for {planned.title}",
        metadata=planned.metadata,
    )
    creation = run.first_made(files[args.artifact_name], args.artifact_name)
    curve = {"learning_curve": trained.learning_curve} if args.learning_curve else {}
    details = {"params": args.params, **curve, **creation}
    stored = run.log_artifact(
        files[args.artifact_name],
        name=args.artifact_name,
        type="model",
        description=planned.title,
        metadata={**trained.metrics, **planned.metadata, **details},
    )
    folder, trial = run.folder / "stored", run.context.trial  # a sweep sets its candidate itself
    mlflow_registration.register(
        args.name, logged_model, folder, data, stored, trained.metrics, run.origin(), planned.title,
        candidate=not trial,
    )  # fmt: skip
    if not trial:
        run.set_alias(stored, mlflow_registration.CANDIDATE)


def follow(run: steps.Run, losses: list[float], loss: float) -> None:
    """Print and log the loss of a round of the fit."""
    losses.append(loss)
    print(f"round {len(losses)}: loss {loss:.4g}", flush=True)
    run.log({LOSS: loss}, step=len(losses))


def arguments() -> argparse.ArgumentParser:
    """The step's parameters; MLproject has the same ones."""
    parser = steps.parser(__doc__)
    add = parser.add_argument
    add("--train_artifact", required=True, help="training data, as name:version")
    add("--test_artifact", required=True, help="test data, as name:version")
    add("--target", type=steps.json_or_text, default="legendary", help="column, or JSON: several")
    add("--drop", type=steps.json_list, default='["number", "name"]', help="JSON: columns to drop")
    add("--categorical", type=steps.json_list, default="[]", help="JSON: numeric categories")
    add("--task", default="auto", help="classification or regression; auto: by the target")
    add("--positive", type=steps.optional, default="", help="positive class; empty: auto")
    forest = "sklearn.ensemble.RandomForestClassifier"
    add("--estimator", type=steps.json_or_text, default=forest, help="path, or JSON by task")
    add("--params", type=steps.json_dict, default='{"random_state": 42}', help="JSON: parameters")
    add("--encode", type=steps.json_dict, default="{}", help="JSON: the encoder of each kind")
    add("--allowed", type=steps.json_list, default='["sklearn"]', help="JSON: packages")
    add("--validation", type=steps.json_value, default="0", help="share of rows to hold out")
    add("--cv", type=steps.json_value, default="", help="number of folds; empty: none")
    add("--seed", type=steps.json_value, default="42", help="seed of validation rows and folds")
    add("--learning_curve", type=steps.json_value, default="false", help="fit on fewer rows, too")
    add("--name", default="pokemon-legendary", help="registered model in MLflow")
    add("--cleaning", type=steps.json_dict, default="{}", help="JSON: how 2-ETL cleaned the data")
    add("--artifact_name", default="model", help="name of the model artifact")
    add(
        "--preprocessor_artifact_name", default="preprocessor", help="artifact of the preprocessing"
    )
    return parser


def main() -> None:
    """Run the step."""
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
