"""Fit a scikit-learn pipeline, measure it on the test data, and register the model."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import json

import mlflow
import pandas as pd

from pipeline import steps
from pipeline.core import azure
from pipeline.provenance import origin
from pipeline.science import evaluation, model_files, validation
from pipeline.science.training import (
    build,
    feature_kinds,
    fit,
    make_estimator,
    predictions,
    read_parts,
    separate,
)
from pipeline.tracking import mlflow_model, mlflow_registration, mlflow_store


def log_to_mlflow(
    params: dict, results: dict, folds: pd.DataFrame, files: dict, tags: dict
) -> None:
    """Record parameters, metrics, figures and tags on the active MLflow run."""
    known = mlflow.active_run().data.params  # those that `mlflow run` has logged
    mlflow.log_params({key: value for key, value in params.items() if key not in known})
    mlflow.log_metrics(results)
    for fold, measured in folds.add_prefix("cv_").to_dict("index").items():
        mlflow.log_metrics(measured, step=fold)
    mlflow.set_tags(tags)
    for file in files.values():
        mlflow.log_artifact(str(file), "figures")


def write_preparation(features: pd.DataFrame, args, folder: Path) -> Path:
    """What has to be known to predict from raw rows, as a file of the model."""
    path = folder / model_files.PREPARATION
    told = {"target": args.target, "drop": args.drop or [], "features": feature_kinds(features)}
    path.write_text(json.dumps(told | {"cleaning": args.cleaning or {}}, indent=1), "utf-8")
    return path


def go(args, run: steps.StepRun) -> None:
    """Read both parts, fit, measure, draw, and log to the tracker and to MLflow."""
    drop, categorical = args.drop or [], args.categorical or []
    parts = [run.use(name).file for name in (args.train_artifact, args.test_artifact)]
    train, test = read_parts(*parts, drop)
    for column in drop:
        if column not in train:
            run.warn(f"model.drop names {column!r}, which the table lacks")
    features, target = separate(train, args.target, drop)
    test_features, test_target = separate(test, args.target, drop)
    estimator = make_estimator(args.estimator, args.params or {}, args.allowed or [])
    model = build(estimator, features, categorical)
    how = validation.How(args.validation, args.cv, args.seed)
    model, results, folds = validation.train(fit, model, features, target, how)

    said = evaluation.answers(model, test_features, test_target)
    results |= evaluation.metrics(said)
    weights = evaluation.importances(model, test_features, test_target)
    files = evaluation.figures(said, weights, run.folder)
    tags = {"developer": origin.developer()}
    tags |= {f"data.{used.name}": f"{used.version} {used.digest}" for used in run.inputs}
    params = {f"estimator.{key}": value for key, value in model[-1].get_params().items()}
    packed = {
        args.preprocessor_artifact_name: model_files.dumps(model[:-1]),
        args.artifact_name: model_files.dumps(model),
    }
    preparation = write_preparation(features, args, run.folder)
    with (
        mlflow_store.active_run("4-Training_model") as active,
        azure.told(active.info.artifact_uri),
    ):
        log_to_mlflow(vars(args) | params, results, folds, files, tags)
        data = packed[args.artifact_name]
        logged = mlflow_model.log(model, data, features, preparation, args.allowed or [])

    run.log_metrics(results)
    if not folds.empty:
        run.log_table("folds", folds.reset_index())
    run.log_figures(files)
    run.log_bars("importances", weights)
    run.log_table("predictions", predictions(said, test))
    metadata = {**results, "estimator": args.estimator, "target": args.target}
    for name, data in packed.items():
        path = run.folder / f"{name}.skops"
        path.write_bytes(data)
        run.log_artifact(
            path,
            name=name,
            type="model",
            description=f"{args.estimator} predicting {args.target}",
            metadata=metadata,
        )
    used, stored = dict(zip(("train", "test"), run.inputs, strict=True)), run.outputs[-1]
    mlflow_registration.register(
        args.name, logged, run.folder / "stored", used, stored, results, run.origin()
    )
    run.set_alias(stored, mlflow_registration.CANDIDATE)


def arguments():
    """The step's parameters; MLproject has the same ones."""
    parser = steps.parser(__doc__)
    parser.add_argument("--train_artifact", required=True, help="training data, as name:version")
    parser.add_argument("--test_artifact", required=True, help="test data, as name:version")
    parser.add_argument("--target", default="legendary", help="column to predict")
    parser.add_argument(
        "--drop",
        type=steps.json_value,
        default='["number", "name"]',
        help="JSON list of columns that are not features",
    )
    parser.add_argument(
        "--categorical",
        type=steps.json_value,
        default="[]",
        help="JSON list of numeric columns that are categories",
    )
    parser.add_argument(
        "--estimator",
        default="sklearn.ensemble.RandomForestClassifier",
        help="dotted path of its class",
    )
    parser.add_argument(
        "--params",
        type=steps.json_value,
        default='{"random_state": 42}',
        help="JSON: its parameters",
    )
    parser.add_argument(
        "--allowed",
        type=steps.json_value,
        default='["sklearn"]',
        help="JSON list of packages it may come from",
    )
    parser.add_argument(
        "--validation",
        type=steps.json_value,
        default="0",
        help="share of the training rows to hold out and measure on",
    )
    parser.add_argument(
        "--cv",
        type=steps.json_value,
        default="",
        help="measure by cross-validation with so many folds; empty: don't",
    )
    parser.add_argument(
        "--seed",
        type=steps.json_value,
        default="42",
        help="seed of the held-out rows and the folds",
    )
    parser.add_argument("--name", default="pokemon-legendary", help="its name in the registry")
    parser.add_argument(
        "--cleaning",
        type=steps.json_value,
        default="{}",
        help="JSON: the settings with which raw rows were read and cleaned (2-ETL's)",
    )
    parser.add_argument("--artifact_name", default="model", help="name of the model artifact")
    parser.add_argument(
        "--preprocessor_artifact_name",
        default="preprocessor",
        help="name of the fitted preprocessing's artifact",
    )
    return parser


def main() -> None:
    """Run the step."""
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
