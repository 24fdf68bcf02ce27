"""Fit a scikit-learn pipeline, measure it on the test data, and register the model."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import steps
from pipeline.reporting import figures
from pipeline.science import evaluation, model_files, splitting, training, validation
from pipeline.science.data import cleaning, defects, kinds
from pipeline.science.plan import plan
from pipeline.tracking import Chart
from pipeline.tracking.mlflow import model as mlflow_model
from pipeline.tracking.mlflow import registration as mlflow_registration


def go(args: argparse.Namespace, run: steps.Run) -> None:
    """Read both parts, fit, measure, draw, and log to the tracker and to MLflow."""
    data = {role: run.use_artifact(getattr(args, f"{role}_artifact")) for role in ("train", "test")}
    schema = data["train"].schema()
    if schema is None:
        run.note(f"{data['train'].reference} has no schema.json: the types are inferred")
    train, test = training.read_parts(data["train"].file(), data["test"].file(), args.drop, schema)
    args.drop = defects.named(args.drop, train.columns)
    args.categorical = defects.named(args.categorical, train.columns)
    (args.target,) = defects.named([args.target], train.columns)
    for column in [name for name in args.drop if name not in train]:
        run.warn(f"model.drop names {column!r}, which the table lacks")
    schema = schema or kinds.schema(train)
    named = ("target", "drop", "categorical", "task", "positive", "estimator", "params", "allowed")
    planned = plan(train, schema, **{name: getattr(args, name) for name in named})
    for line in planned.notes:
        run.note(line)
    for line in planned.warnings:
        run.note(line, warning=True)
    trained = training.train(
        train,
        test,
        planned.estimator,
        positive=planned.positive,
        kinds=planned.kinds,
        useless=planned.useless,
        target=args.target,
        drop=args.drop,
        categorical=args.categorical,
        how=validation.How(args.validation, args.cv, args.seed, *splitting.drawn(train, schema)),
    )
    for line in evaluation.lacking(trained.answers):
        run.note(line, warning=True)
    pictures = figures.draw(trained.answers, trained.importances, run.folder)
    preparation = model_files.write_preparation(
        run.folder,
        target=args.target,
        positive=planned.positive,
        target_dtype=kinds.dtype(train[args.target]),
        drop=args.drop,
        features=trained.kinds,
        cleaning=cleaning.by_names(args.cleaning),
    )
    parts = {args.preprocessor_artifact_name: trained.model[:-1], args.artifact_name: trained.model}
    files = {name: model_files.save(part, run.folder / f"{name}.skops")
             for name, part in parts.items()}  # fmt: skip
    published = mlflow_model.publish(
        run.job_type,
        trained.model,
        files[args.artifact_name],
        trained.features,
        preparation,
        allowed=args.allowed,
        params={**vars(args), "estimator": planned.path},
        metrics=trained.metrics,
        folds=trained.folds,
        figures=pictures,
        inputs=run.inputs,
    )
    run.log({**trained.metrics, **pictures, "importances": trained.importances})
    run.log({name: Chart(table) for name, table in evaluation.charts(trained.answers).items()})
    run.log({"predictions": training.predictions(trained.answers, test)})
    if not trained.folds.empty:
        run.log({"folds": trained.folds.reset_index()})
    about = {"estimator": planned.path, "target": args.target, "positive": planned.positive}
    run.log_artifact(
        files[args.preprocessor_artifact_name],
        name=args.preprocessor_artifact_name,
        type="preprocessor",
        description=f"Features for {planned.path} predicting {args.target}",
        metadata=about,
    )
    stored = run.log_artifact(
        files[args.artifact_name],
        name=args.artifact_name,
        type="model",
        description=f"{planned.path} predicting {args.target}",
        metadata={**trained.metrics, **about},
    )
    kept, trial = run.folder / "stored", run.context.trial  # a sweep has a candidate at its end
    mlflow_registration.register(
        args.name, published, kept, data, stored, trained.metrics, run.origin(), not trial
    )
    if not trial:
        run.set_alias(stored, mlflow_registration.CANDIDATE)


def arguments() -> argparse.ArgumentParser:
    """The step's parameters; MLproject has the same ones."""
    parser = steps.parser(__doc__)
    add = parser.add_argument
    add("--train_artifact", required=True, help="training data, as name:version")
    add("--test_artifact", required=True, help="test data, as name:version")
    add("--target", default="legendary", help="column to predict")
    add("--drop", type=steps.json_list, default='["number", "name"]', help="JSON: not features")
    add("--categorical", type=steps.json_list, default="[]", help="JSON: numbers as categories")
    add("--task", default="auto", help="classification or regression; auto: by the target")
    add("--positive", type=steps.optional, default="", help="of two classes; empty: decided")
    add("--estimator", default="sklearn.ensemble.RandomForestClassifier", help="dotted path")
    add("--params", type=steps.json_dict, default='{"random_state": 42}', help="JSON: its own")
    add("--allowed", type=steps.json_list, default='["sklearn"]', help="JSON: its packages")
    add("--validation", type=steps.json_value, default="0", help="share of rows to hold out")
    add("--cv", type=steps.json_value, default="", help="folds to measure by; empty: none")
    add("--seed", type=steps.json_value, default="42", help="of the held-out rows and the folds")
    add("--name", default="pokemon-legendary", help="its name in MLflow's registry")
    add("--cleaning", type=steps.json_dict, default="{}", help="JSON: how 2-ETL cleaned the data")
    add("--artifact_name", default="model", help="name of the model artifact")
    add("--preprocessor_artifact_name", default="preprocessor", help="of its fitted preprocessing")
    return parser


def main() -> None:
    """Run the step."""
    steps.main(__file__, arguments(), go)


if __name__ == "__main__":
    main()
