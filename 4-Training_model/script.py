"""Fit a scikit-learn pipeline, measure it on the test data, and register the model."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import startup

startup.begin(__name__)  # before the imports that take long

import importlib
import inspect
import json
from math import inf

import mlflow
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.multiclass import type_of_target

from pipeline import (
    azure,
    evaluation,
    logged_model,
    mlflow_store,
    models,
    provenance,
    registration,
    step,
    validation,
)
from pipeline.errors import PipelineError, did_you_mean
from pipeline.tables import read_table

# What is only imported when it is needed: to draw, and to log a model and register it.
LATER = (
    "alembic.command",
    "git",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.models.display_utils",
    "mlflow.sklearn",
    "sqlalchemy.dialects.sqlite",
)
PREDICTIONS_SHOWN = 1000


def make_estimator(path: str, params: dict, allowed: list[str]) -> BaseEstimator:
    """The estimator that ``model.estimator`` names.

    Args:
        path: dotted path of a class, such as ``sklearn.ensemble.RandomForestClassifier``.
        params: its parameters.
        allowed: the packages it may come from; no other code is imported.

    Raises:
        PipelineError: another package, no such class, or a parameter it does not have.
    """
    module, _, name = path.rpartition(".")
    if module.partition(".")[0] not in allowed:
        raise PipelineError(
            f"model.estimator={path!r} is not from an allowed package",
            f"name a class of: {', '.join(allowed)} (model.allowed)",
        )
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        found = None
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        raise PipelineError(
            f"model.estimator={path!r} is not an estimator", "check its module and name"
        )
    accepted = inspect.signature(found).parameters
    known, takes_any = [*accepted], any(one.kind is one.VAR_KEYWORD for one in accepted.values())
    for param in params:
        if param not in known and not takes_any:
            raise PipelineError(
                f"model.params: {name} has no parameter {param!r}{did_you_mean(param, known)}",
                f"its parameters are: {', '.join(known)}",
            )
    try:
        estimator = found(**params)
    except TypeError as error:  # abstract, or built from other estimators
        raise PipelineError(
            f"model.estimator={path!r} can't be made: {error}", "choose another class"
        ) from error
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise PipelineError(
            f"model.estimator={path!r} predicts neither classes nor numbers",
            "choose a classifier or a regressor: model=random_forest",
        )
    return estimator


def read_parts(
    train_file: Path, test_file: Path, drop: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both parts; a column of words in training is one in the test part, whatever it holds.

    Raises:
        PipelineError: the test part lacks a column, or has words where training has numbers;
            columns in ``drop`` don't matter.
    """
    train = read_table(train_file)
    test = read_table(test_file, text_columns=train.select_dtypes("str").columns)
    for column in train.columns.difference(drop, sort=False):
        if column not in test:
            raise PipelineError(
                f"the test data lacks {column!r}, a column of the training data",
                "use the two parts of one table",
            )
        cells = test[column].dropna()
        if pd.api.types.is_numeric_dtype(train[column]) and cells.dtype == "str":
            word = cells[pd.to_numeric(cells, errors="coerce").isna().idxmax()]
            raise PipelineError(
                f"{column!r} holds numbers in the training data, and {word!r} in the test data",
                "give it a dtype in etl.schema, or name it in model.drop",
            )
    return train, test


def separate(table: pd.DataFrame, target: str, drop: list[str]) -> tuple[pd.DataFrame, pd.Series]:
    """Features and target of a table; numbers as floats, so that a gap never changes a type.

    Raises:
        PipelineError: the target is not there or has gaps, no feature is left, or one is infinite.
    """
    if target not in table:
        raise PipelineError(
            f"model.target names {target!r}, which the table lacks"
            f"{did_you_mean(target, table.columns)}",
            f"the columns are: {', '.join(table.columns)}",
        )
    if table[target].isna().any():
        raise PipelineError(
            f"model.target={target!r} has {int(table[target].isna().sum())} missing values",
            "list it in etl.required, so that rows without it are dropped",
        )
    features = table.drop(columns=[target, *drop], errors="ignore")
    if features.empty:
        raise PipelineError("no feature is left", "name fewer columns in model.drop")
    numbers = features.select_dtypes("number").columns
    infinite = [column for column in numbers if features[column].isin([inf, -inf]).any()]
    if infinite:
        raise PipelineError(
            f"the columns {infinite} hold infinite values", "add inf and -inf to etl.missing"
        )
    return features.astype(dict.fromkeys(numbers, "float64")), table[target]


def build(estimator: BaseEstimator, features: pd.DataFrame, categorical: list[str]) -> Pipeline:
    """Preprocessing and estimator as one pipeline.

    Numbers are imputed by their median and scaled; columns of words, and those named in
    ``categorical``, are imputed by their commonest value and one-hot encoded; so are truth
    values. Categories not seen in training are ignored.
    """
    for column in categorical:
        if column not in features:
            raise PipelineError(
                f"model.categorical names {column!r}, which is not a feature"
                f"{did_you_mean(column, features.columns)}",
                f"the features are: {', '.join(features.columns)}",
            )
    numeric = features.select_dtypes("number").columns.difference(categorical, sort=False)
    truth = features.select_dtypes("bool").columns.difference(categorical, sort=False)
    rest = features.columns.difference([*numeric, *truth], sort=False)
    one_hot = OneHotEncoder(handle_unknown="ignore")
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encoded = make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot)
    prepare = ColumnTransformer(
        [
            ("number", scaled, [*numeric]),
            ("category", encoded, [*rest]),
            ("truth", one_hot, [*truth]),  # the imputer refuses a table of nothing else
        ],
        sparse_threshold=0.3 if get_tags(estimator).input_tags.sparse else 0,
        verbose_feature_names_out=False,
    )
    return Pipeline([("prepare", prepare), ("estimator", estimator)])


def fit(model: Pipeline, features: pd.DataFrame, target: pd.Series) -> Pipeline:
    """Fit a pipeline, after checking that its estimator can predict such a target.

    Raises:
        PipelineError: a target of one class, a continuous one for a classifier, text for a
            regressor, or parameters the estimator refuses.
    """
    estimator, name = model[-1], type(model[-1]).__name__
    if is_classifier(estimator):
        if target.nunique() < 2:
            raise PipelineError(
                f"model.target={target.name!r} has one class only: {target.iloc[0]!r}",
                "a classifier needs two; check the data, or choose another target",
            )
        if type_of_target(target).startswith("continuous"):
            raise PipelineError(
                f"model.target={target.name!r} is continuous, and {name} predicts classes",
                "choose a regressor: model=random_forest_regressor",
            )
    elif is_regressor(estimator) and not pd.api.types.is_numeric_dtype(target):
        raise PipelineError(
            f"model.target={target.name!r} is not a number, and {name} predicts numbers",
            "choose a classifier: model=random_forest",
        )
    try:
        return model.fit(features, target)
    except ValueError as error:
        raise PipelineError(f"{name} can't be fitted: {error}", "check model.params") from error


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


def feature_kinds(features: pd.DataFrame) -> dict[str, str]:
    """What each feature holds: ``number``, ``truth``, ``truth or gap`` or ``text``."""
    kinds = dict.fromkeys(features, "text")
    for name in features:
        if pd.api.types.is_bool_dtype(features[name]):
            kinds[name] = "truth"
        elif pd.api.types.is_numeric_dtype(features[name]):
            kinds[name] = "number"
        elif features[name].dtype == object:  # truth values with gaps; words have a type
            kinds[name] = "truth or gap"
    return kinds


def write_preparation(features: pd.DataFrame, args, folder: Path) -> Path:
    """What has to be known to predict from raw rows, as a file of the model."""
    path = folder / models.PREPARATION
    told = {"target": args.target, "drop": args.drop or [], "features": feature_kinds(features)}
    path.write_text(json.dumps(told | {"cleaning": args.cleaning or {}}, indent=1), "utf-8")
    return path


def predictions(said: evaluation.Answers, table: pd.DataFrame) -> pd.DataFrame:
    """The first test rows, with what the model says of them."""
    shown = table.head(PREDICTIONS_SHOWN).copy()
    shown["prediction"] = said.predicted[: len(shown)]
    if said.probable:
        shown["probability"] = said.scores[: len(shown)].max(axis=1)
    return shown


def go(args, run: step.StepRun) -> None:
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
    tags = {"developer": provenance.developer()}
    tags |= {f"data.{used.name}": f"{used.version} {used.digest}" for used in run.inputs}
    params = {f"estimator.{key}": value for key, value in model[-1].get_params().items()}
    packed = {
        args.preprocessor_artifact_name: models.dumps(model[:-1]),
        args.model_artifact_name: models.dumps(model),
    }
    preparation = write_preparation(features, args, run.folder)
    with (
        mlflow_store.active_run("4-Training_model") as active,
        azure.told(active.info.artifact_uri),
    ):
        log_to_mlflow(vars(args) | params, results, folds, files, tags)
        data = packed[args.model_artifact_name]
        logged = logged_model.log(model, data, features, preparation, args.allowed or [])

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
    registration.register(args.name, logged, run.folder / "stored", used, stored, results)
    run.set_alias(stored, registration.CANDIDATE)


def prepare() -> None:
    """Do ahead what takes time and is the same for every model."""
    for name in LATER:
        importlib.import_module(name)
    # MLflow asks all installed packages for their modules when it first looks at requirements
    requirements = importlib.import_module("mlflow.utils.requirements_utils")
    requirements.warn_dependency_requirement_mismatches(["mlflow"])


def arguments():
    """The step's parameters; MLproject has the same ones."""
    parser = step.parser(__doc__)
    parser.add_argument("--train_artifact", required=True, help="training data, as name:version")
    parser.add_argument("--test_artifact", required=True, help="test data, as name:version")
    parser.add_argument("--target", default="legendary", help="column to predict")
    parser.add_argument(
        "--drop",
        type=step.json_value,
        default='["number", "name"]',
        help="JSON list of columns that are not features",
    )
    parser.add_argument(
        "--categorical",
        type=step.json_value,
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
        type=step.json_value,
        default='{"random_state": 42}',
        help="JSON: its parameters",
    )
    parser.add_argument(
        "--allowed",
        type=step.json_value,
        default='["sklearn"]',
        help="JSON list of packages it may come from",
    )
    parser.add_argument(
        "--validation",
        type=step.json_value,
        default="0",
        help="share of the training rows to hold out and measure on",
    )
    parser.add_argument(
        "--cv",
        type=step.json_value,
        default="",
        help="measure by cross-validation with so many folds; empty: don't",
    )
    parser.add_argument(
        "--seed", type=step.json_value, default="42", help="seed of the held-out rows and the folds"
    )
    parser.add_argument("--name", default="pokemon-legendary", help="its name in the registry")
    parser.add_argument(
        "--cleaning",
        type=step.json_value,
        default="{}",
        help="JSON: the settings with which raw rows were read and cleaned (2-ETL's)",
    )
    parser.add_argument("--model_artifact_name", default="model", help="name of the model artifact")
    parser.add_argument(
        "--preprocessor_artifact_name",
        default="preprocessor",
        help="name of the fitted preprocessing's artifact",
    )
    return parser


if __name__ == "__main__":
    step.main(__file__, arguments(), go, prepare)
