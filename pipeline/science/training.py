"""Builds and fits a scikit-learn pipeline for a table. Pure functions."""

import importlib
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.utils import get_tags
from sklearn.utils.multiclass import type_of_target

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.science import evaluation, validation
from pipeline.science.data.kinds import expand
from pipeline.science.data.tables import read_table

PREDICTIONS_SHOWN = 1000
COMPONENTS = 30  # of a column of free text
# What a parameter may call, whatever model.allowed says: functions of numbers, without effects
FUNCTIONS = frozenset(
    {
        *(f"numpy.{name}" for name in ("abs", "exp", "expm1", "log", "log1p", "log2", "log10")),
        *(f"numpy.{name}" for name in ("sqrt", "square", "cbrt", "sign")),
        "scipy.special.expit",
        "scipy.special.logit",
        "sklearn.feature_selection.chi2",
        "sklearn.feature_selection.f_classif",
        "sklearn.feature_selection.f_regression",
        "sklearn.feature_selection.mutual_info_classif",
        "sklearn.feature_selection.mutual_info_regression",
    }
)


@dataclass(frozen=True)
class Trained:
    """A fitted model, and how good it is.

    Attributes:
        model: the fitted pipeline.
        features: what it was fitted on.
        metrics: its metrics on the test data, and those of the validation.
        folds: the metrics of each fold, if it was cross-validated.
        answers: what it says of the test rows.
        importances: how much each feature matters.
        kinds: what each raw feature holds, for those who predict.
    """

    model: Pipeline
    features: pd.DataFrame
    metrics: dict[str, float]
    folds: pd.DataFrame
    answers: evaluation.Answers
    importances: pd.Series
    kinds: Mapping[str, str] = field(default_factory=dict)


def train(
    train: pd.DataFrame,
    test: pd.DataFrame,
    estimator: BaseEstimator,
    *,
    target: str,
    drop: list[str],
    categorical: list[str],
    how: validation.How,
    positive: Any = None,
    kinds: Mapping[str, str] | None = None,
    useless: Collection[str] = (),
) -> Trained:
    """Fit an estimator on one table, and measure it on another.

    Args:
        train, test: the two parts of the data.
        estimator: from :func:`make_estimator`.
        target: the column to predict.
        drop: columns that are not features.
        categorical: columns of numbers that are categories.
        how: how to measure it on the training data, too.
        positive: of two classes the one that the metrics are of.
        kinds: what features hold (:func:`pipeline.science.data.kinds.features`); by default
            their types.
        useless: columns that the schema knows to be no features.
    """
    kinds = kinds or {}
    raw, wanted = separate(train, target, [*drop, *useless])
    test_features, truth = separate(test, target, [*drop, *useless])
    features, test_features = expand(raw, kinds), expand(test_features, kinds)
    model = build(estimator, features, categorical, kinds, how.seed)
    model, metrics, folds = validation.train(fit, model, features, wanted, how, positive)
    answers = evaluation.answers(model, test_features, truth, positive)
    metrics |= evaluation.metrics(answers)
    importances = evaluation.importances(model, test_features, truth)
    held = {**feature_kinds(raw), **special(kinds, raw)}
    return Trained(model, features, metrics, folds, answers, importances, held)


def make_estimator(path: str, params: dict, allowed: list[str]) -> BaseEstimator:
    """The estimator that ``model.estimator`` names.

    A parameter may be an estimator, too, or one of :data:`FUNCTIONS`:
    ``{"_target_": "sklearn.tree.DecisionTreeClassifier", "max_depth": 3}``.

    Args:
        path: dotted path of a class, such as ``sklearn.ensemble.RandomForestClassifier``.
        params: its parameters.
        allowed: the packages it may come from; no other code is imported.

    Raises:
        PipelineError: another package, no such class, or a parameter it does not have or that
            is refused.
    """
    estimator = _make("model.estimator", path, params, allowed)
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise PipelineError(
            f"model.estimator={path!r} predicts neither classes nor numbers",
            "choose a classifier or a regressor: model=random_forest",
        )
    return estimator


def _make(key: str, path: str, params: dict, allowed: list[str]) -> BaseEstimator:
    found = _estimator_class(key, path, allowed)
    accepted = inspect.signature(found).parameters
    known, takes_any = [*accepted], any(one.kind is one.VAR_KEYWORD for one in accepted.values())
    for param in params:
        if param not in known and not takes_any:
            raise PipelineError(
                f"model.params: {found.__name__} has no parameter {param!r}"
                f"{did_you_mean(param, known)}",
                f"its parameters are: {', '.join(known)}",
            )
    values = {name: _parameter(name, value, allowed) for name, value in params.items()}
    try:
        return found(**values)
    except TypeError as error:  # abstract, or built from other estimators
        raise PipelineError(
            f"{key}={path!r} can't be made: {error}", "choose another class"
        ) from error


def _estimator_class(key: str, path: object, allowed: list[str]) -> type[BaseEstimator]:
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if module.partition(".")[0] not in allowed:
        raise PipelineError(
            f"{key}={path!r} is not from an allowed package",
            f"name a class of: {', '.join(allowed)} (model.allowed)",
        )
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        found = None
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        raise PipelineError(f"{key}={path!r} is not an estimator", "check its module and name")
    return found


def _parameter(name: str, value: object, allowed: list[str]) -> object:
    """A parameter's value, with the estimators and functions that it names.

    Raises:
        PipelineError: the estimator would read files, write a cache, or call something else.
    """
    if value is not None and (name == "memory" or name.endswith("__memory")):
        raise PipelineError(
            f"model.params: {name}={value!r} would write a cache to the disk", f"leave {name} out"
        )
    if (name == "input" or name.endswith("__input")) and value in ("file", "filename"):
        raise PipelineError(
            f"model.params: {name}={value!r} would read files", f"leave {name} out: content"
        )
    if callable(value) and not isinstance(value, BaseEstimator):
        raise PipelineError(
            f"model.params: {name}={value!r} is a callable", '{"_target_": PATH} names a function'
        )
    if isinstance(value, dict) and "_target_" in value:
        params = {str(key): inner for key, inner in value.items() if key != "_target_"}
        target = value["_target_"]
        if isinstance(target, str) and target in FUNCTIONS:
            if params:
                said = f"model.params: {name}: the function {target} takes no parameters"
                raise PipelineError(said, f"leave out {', '.join(params)}")
            module, _, function = target.rpartition(".")
            return getattr(importlib.import_module(module), function)
        key = f"model.params: {name}: _target_"
        if isinstance(target, str) and target.partition(".")[0] in {"numpy", "scipy"}:
            said = f"{key}={target!r} is no function that may be named"
            raise PipelineError(said, f"the functions are: {', '.join(sorted(FUNCTIONS))}")
        return _make(key, target, params, allowed)
    if isinstance(value, dict):
        return {key: _parameter(str(key), inner, allowed) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_parameter(name, inner, allowed) for inner in value)
    return value


def read_parts(
    train_file: Path, test_file: Path, drop: list[str], schema: Mapping[str, Any] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both parts, in the types of the training part's schema.

    Without one a column of words in training is one in the test part, whatever it holds.

    Raises:
        PipelineError: the test part lacks a column, or has words where training has numbers;
            columns in ``drop`` don't matter.
    """
    train = read_table(train_file, schema=schema)
    test = read_table(test_file, train.select_dtypes("str").columns, schema)
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
    wanted = target_of(table, target)
    features = table.drop(columns=[target, *drop], errors="ignore")
    if features.empty:
        raise PipelineError("no feature is left", "name fewer columns in model.drop")
    numbers = features.select_dtypes("number").columns
    infinite = [column for column in numbers if features[column].isin([inf, -inf]).any()]
    if infinite:
        raise PipelineError(
            f"the columns {infinite} hold infinite values", "add inf and -inf to etl.missing"
        )
    return features.astype(dict.fromkeys(numbers, "float64")), wanted


def target_of(table: pd.DataFrame, target: str) -> pd.Series:
    """The column to predict.

    Raises:
        PipelineError: it is not there, or has gaps.
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
    return table[target]


def special(kinds: Mapping[str, str], features: pd.DataFrame) -> dict[str, str]:
    """The features that are dates or free text, by the names that predicting has for them."""
    told = {name: kinds.get(name, "") for name in features}
    return {
        name: "free text" if kind == "text" else kind
        for name, kind in told.items()
        if kind == "text" or kind.startswith("date ")
    }


def build(
    estimator: BaseEstimator,
    features: pd.DataFrame,
    categorical: list[str],
    kinds: Mapping[str, str] | None = None,
    seed: int = 42,
) -> Pipeline:
    """Preprocessing and estimator as one pipeline.

    Numbers are imputed by their median and scaled; columns of words, and those named in
    ``categorical``, are imputed by their commonest value and one-hot encoded; so are truth
    values. Categories not seen in training are ignored. Columns of many categories become the
    target's mean for each (cross-fitted), and free text the components of its TF-IDF weights.

    Args:
        estimator: the estimator.
        features: what it is to be fitted on (:func:`pipeline.science.data.kinds.expand`).
        categorical: columns of numbers that are categories.
        kinds: what features hold.
        seed: of the folds that categories are encoded by, and of the components.
    """
    for column in categorical:
        if column not in features:
            raise PipelineError(
                f"model.categorical names {column!r}, which is not a feature"
                f"{did_you_mean(column, features.columns)}",
                f"the features are: {', '.join(features.columns)}",
            )
    kinds = kinds or {}
    texts = [name for name in features if kinds.get(name) == "text"]
    many = [name for name in features if kinds.get(name) == "many"]
    words = [*texts, *many, *(name for name in features if kinds.get(name) == "category")]
    categorical = [*categorical, *words]
    numeric = features.select_dtypes("number").columns.difference(categorical, sort=False)
    truth = features.select_dtypes("bool").columns.difference(categorical, sort=False)
    rest = features.columns.difference([*numeric, *truth, *texts, *many], sort=False)
    one_hot = OneHotEncoder(handle_unknown="ignore")
    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encoded = make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot)
    prepare = ColumnTransformer(
        [
            ("number", scaled, [*numeric]),
            ("category", encoded, [*rest]),
            ("truth", one_hot, [*truth]),  # the imputer refuses a table of nothing else
            *_many(many, estimator, seed),
            *((f"text {name}", _text(features[name], seed), name) for name in texts),
        ],
        sparse_threshold=0.3 if get_tags(estimator).input_tags.sparse else 0,
        verbose_feature_names_out=False,
    )
    return Pipeline([("prepare", prepare), ("estimator", estimator)])


def _many(
    names: list[str], estimator: BaseEstimator, seed: int
) -> list[tuple[str, Any, list[str]]]:
    folds = KFold(5, shuffle=True, random_state=seed)
    goal = "continuous" if is_regressor(estimator) else "auto"
    encoder = TargetEncoder(target_type=goal, cv=folds)
    return [("many", make_pipeline(encoder, StandardScaler()), names)] if names else []


def _text(column: pd.Series, seed: int) -> Pipeline:
    """TF-IDF weights of a column's words, in few components."""
    weights = TfidfVectorizer(max_features=5000, sublinear_tf=True)
    words = len(TfidfVectorizer(max_features=5000).fit(column).vocabulary_)
    if words <= 4 * COMPONENTS:  # a fold has fewer of them
        return make_pipeline(weights)
    return make_pipeline(weights, TruncatedSVD(COMPONENTS, random_state=seed))


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


def predictions(said: evaluation.Answers, table: pd.DataFrame) -> pd.DataFrame:
    """The first test rows, with what the model says of them."""
    shown = table.head(PREDICTIONS_SHOWN).copy()
    shown["prediction"] = said.predicted[: len(shown)]
    if said.probable:
        shown["probability"] = said.scores[: len(shown)].max(axis=1)
    return shown
