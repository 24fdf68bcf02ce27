"""Fits a scikit-learn pipeline to a table, and measures it. Pure functions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import type_of_target

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.science import encoding, evaluation, insights, rounds, tasks, validation
from pipeline.science.data.kinds import expand
from pipeline.science.data.tables import read_table

PREDICTIONS_SHOWN = 1000


@dataclass(frozen=True)
class Trained:
    """A fitted model, and how good it is.

    Attributes:
        model: the fitted pipeline.
        features: what it was fitted on.
        metrics: its metrics on the test data, and those of the validation.
        folds: the metrics of each fold, if it was cross-validated.
        predictions: its predictions for the test rows.
        importances: how much each feature matters.
        kinds: what each raw feature holds, for those who predict.
        insights: what stands beside the metrics (:func:`pipeline.science.insights.collect`).
    """

    model: Pipeline
    features: pd.DataFrame
    metrics: dict[str, float]
    folds: pd.DataFrame
    predictions: evaluation.Predictions
    importances: pd.Series
    kinds: Mapping[str, str] = field(default_factory=dict)
    insights: Mapping[str, Any] = field(default_factory=dict)

    def tables(self, test: pd.DataFrame) -> dict[str, Any]:
        """What is to be looked at beside the metrics.

        Args:
            test: the test rows, as they were read.
        """
        shown = {
            "importances": self.importances,
            "predictions": prediction_table(self.predictions, test),
        }
        return shown if self.folds.empty else shown | {"folds": self.folds.reset_index()}


def train(
    train: pd.DataFrame,
    test: pd.DataFrame,
    estimator: BaseEstimator,
    *,
    target: str | list[str],
    drop: list[str],
    categorical: list[str],
    scheme: validation.Scheme,
    positive: Any = None,
    kinds: Mapping[str, str] | None = None,
    useless: Collection[str] = (),
    encode: Mapping[str, str] | None = None,
    on_loss: rounds.LossCallback | None = None,
    learning_curve: bool = False,
) -> Trained:
    """Fit an estimator on one table, and measure it on another.

    Args:
        train, test: the two parts of the data.
        estimator: from :func:`pipeline.science.estimators.make_estimator`.
        target: the column to predict, or several.
        drop: columns that are not features.
        categorical: columns of numbers that are categories.
        scheme: how to measure it on the training data, too.
        positive: of two classes the one that the metrics are of.
        kinds: what features hold (:func:`pipeline.science.data.kinds.features`); by default
            their types.
        useless: columns that the schema knows to be no features.
        encode: the encoder of each kind (:func:`pipeline.science.encoding.build`).
        on_loss: takes the loss of each round of the last fit (:mod:`pipeline.science.rounds`).
        learning_curve: measure it with fewer rows, too.
    """
    kinds = kinds or {}
    raw, wanted = separate(train, target, [*drop, *useless])
    test_features, truth = separate(test, target, [*drop, *useless])
    features, test_features = expand(raw, kinds), expand(test_features, kinds)

    def build(one: BaseEstimator) -> Pipeline:
        return encoding.build(one, features, categorical, kinds, scheme.seed, encode)

    model = build(estimator)
    fit_so = partial(fit, scheme=scheme)
    model, metrics, folds = validation.train(
        fit_so, model, features, wanted, scheme, positive, on_loss
    )
    predictions = evaluation.predict(model, test_features, truth, positive)
    metrics |= evaluation.metrics(predictions)
    importances = evaluation.importances(model, test_features, truth)
    held = {**feature_kinds(raw), **special(kinds, raw)}
    beside = insights.collect(
        model, features, wanted, test_features, predictions, importances, build, positive
    )
    if learning_curve:
        curve = validation.learning_curve(fit_so, model, features, wanted, scheme, positive)
        beside["learning_curve"] = curve
    return Trained(model, features, metrics, folds, predictions, importances, held, beside)


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


def separate(
    table: pd.DataFrame, target: str | list[str], drop: list[str]
) -> tuple[pd.DataFrame, Any]:
    """Features and target of a table; numbers as floats, so that a gap never changes a type.

    Several targets are a table.

    Raises:
        PipelineError: the target is not there or has gaps, no feature is left, or one is infinite.
    """
    goals = {name: target_of(table, name) for name in tasks.names(target)}
    wanted = goals[target] if isinstance(target, str) else pd.DataFrame(goals)
    features = table.drop(columns=[*goals, *drop], errors="ignore")
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


def fit(
    model: Pipeline,
    features: pd.DataFrame,
    target: pd.Series,
    scheme: validation.Scheme | None = None,
    on_loss: rounds.LossCallback | None = None,
) -> Pipeline:
    """Fit a pipeline, after checking that its estimator can predict such a target.

    Args:
        model, features, target: the pipeline and the rows.
        scheme: how rows are drawn; categories are encoded by folds that are drawn in the same way.
        on_loss: takes the loss of each round (:mod:`pipeline.science.rounds`).

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
    elif target.ndim == 1 and not pd.api.types.is_numeric_dtype(target):
        raise PipelineError(
            f"model.target={target.name!r} is not a number, and {name} predicts numbers",
            "choose a classifier: model=random_forest",
        )
    usual = model.get_params().get(encoding.MANY_FOLDS)
    folds = scheme.predefined_split(target, encoding.FOLDS) if scheme and usual else None
    try:
        if folds is None:
            return rounds.fit(model, features, target, on_loss)
        model.set_params(**{encoding.MANY_FOLDS: folds})
        model = rounds.fit(model, features, target, on_loss)
        return model.set_params(**{encoding.MANY_FOLDS: usual})  # not kept with the model
    except (ValueError, TypeError, AttributeError) as error:  # also: built from what is no model
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


def prediction_table(predictions: evaluation.Predictions, table: pd.DataFrame) -> pd.DataFrame:
    """The first test rows, with what the model says of them."""
    shown = table.head(PREDICTIONS_SHOWN).copy()
    for name, predicted in predictions.columns("prediction").items():
        shown[name] = predicted[: len(shown)]
    if predictions.has_probabilities and predictions.scores is not None:
        shown["probability"] = predictions.scores[: len(shown)].max(axis=1)
    return shown
