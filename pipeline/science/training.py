"""Fits a scikit-learn pipeline on a table, and measures it. Pure functions."""

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
from pipeline.science import encoding, evaluation, rounds, tasks, validation
from pipeline.science.data.kinds import expand
from pipeline.science.data.tables import read_table

PREDICTIONS_SHOWN = 1000


@dataclass(frozen=True)
class Trained:
    """A fitted model with its metrics and predictions.

    Attributes:
        model: the fitted pipeline.
        features: the features of the training rows.
        metrics: the test metrics and the validation metrics.
        folds: the metrics of each fold, if the model was cross-validated.
        predictions: the predictions for the test rows.
        importances: the importance of each feature.
        kinds: the kind of each raw feature, for prediction.
        learning_curve: see :func:`pipeline.science.validation.learning_curve`; by default None.
    """

    model: Pipeline
    features: pd.DataFrame
    metrics: dict[str, float]
    folds: pd.DataFrame
    predictions: evaluation.Predictions
    importances: pd.Series
    kinds: Mapping[str, str] = field(default_factory=dict)
    learning_curve: Mapping[str, Any] | None = None

    def tables(self, test: pd.DataFrame) -> dict[str, Any]:
        """The tables to log beside the metrics, by name.

        Args:
            test: the test rows, as read.
        """
        tables = {
            "importances": self.importances,
            "predictions": prediction_table(self.predictions, test),
        }
        return tables if self.folds.empty else tables | {"folds": self.folds.reset_index()}


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
    """Fit an estimator on the training part, and measure it on the test part.

    Args:
        train, test: the two parts of the data.
        estimator: from :func:`pipeline.science.estimators.make_estimator`.
        target: the column to predict, or several.
        drop: columns that are not features.
        categorical: columns of numbers that are categories.
        scheme: the training rows to measure the model on.
        positive: the positive class of a binary classifier.
        kinds: the kind of each feature (:func:`pipeline.science.data.kinds.features`); by default
            inferred from their types.
        useless: columns that can't be features by the schema.
        encode: the encoder of each kind (:func:`pipeline.science.encoding.build`).
        on_loss: called with the loss of each round of the final fit
            (:mod:`pipeline.science.rounds`).
        learning_curve: whether to measure models fitted on fewer rows, too.
    """
    kinds = kinds or {}
    raw, labels = separate(train, target, [*drop, *useless])
    test_features, truth = separate(test, target, [*drop, *useless])
    features, test_features = expand(raw, kinds), expand(test_features, kinds)
    model = encoding.build(estimator, features, categorical, kinds, scheme.seed, encode)
    fit_model = partial(fit, scheme=scheme)
    model, metrics, folds = validation.train(
        fit_model, model, features, labels, scheme, positive, on_loss
    )
    predictions = evaluation.predict(model, test_features, truth, positive)
    metrics |= evaluation.metrics(predictions)
    importances = evaluation.importances(model, test_features, truth)
    raw_kinds = {**feature_kinds(raw), **special(kinds, raw)}
    curve = None
    if learning_curve:
        curve = validation.learning_curve(fit_model, model, features, labels, scheme, positive)
    return Trained(model, features, metrics, folds, predictions, importances, raw_kinds, curve)


def read_parts(
    train_file: Path, test_file: Path, drop: list[str], schema: Mapping[str, Any] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read both parts, with the types of the training part's schema.

    Without a schema, a text column of the training part is read as text in the test part, too.

    Raises:
        PipelineError: the test part lacks a column, or has text where training has numbers;
            columns in ``drop`` are not checked.
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
    """Separate the features of a table from the target: a series, or a table of several targets.

    Numeric features become floats, so that a missing value never changes a type.

    Raises:
        PipelineError: the target is absent or has gaps, no feature is left, or a value is infinite.
    """
    target_columns = {name: target_of(table, name) for name in tasks.names(target)}
    labels = target_columns[target] if isinstance(target, str) else pd.DataFrame(target_columns)
    features = table.drop(columns=[*target_columns, *drop], errors="ignore")
    if features.empty:
        raise PipelineError(
            f"the table has no feature: its columns are {', '.join(table.columns)}",
            "name fewer columns in model.drop",
        )
    numbers = features.select_dtypes("number").columns
    infinite = [column for column in numbers if features[column].isin([inf, -inf]).any()]
    if infinite:
        raise PipelineError(
            f"the columns {infinite} hold infinite values", "add inf and -inf to etl.missing"
        )
    return features.astype(dict.fromkeys(numbers, "float64")), labels


def target_of(table: pd.DataFrame, target: str) -> pd.Series:
    """The column to predict.

    Raises:
        PipelineError: the column is absent, has gaps, or is infinite.
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
    if table[target].isin([inf, -inf]).any():
        raise PipelineError(
            f"model.target={target!r} has infinite values", "add inf and -inf to etl.missing"
        )
    return table[target]


def special(kinds: Mapping[str, str], features: pd.DataFrame) -> dict[str, str]:
    """The features that are dates or free text, with the kinds that prediction uses for them."""
    kind_by_name = {name: kinds.get(name, "") for name in features}
    return {
        name: "free text" if kind == "text" else kind
        for name, kind in kind_by_name.items()
        if kind == "text" or kind.startswith("date ")
    }


def fit(
    model: Pipeline,
    features: pd.DataFrame,
    target: pd.Series,
    scheme: validation.Scheme | None = None,
    on_loss: rounds.LossCallback | None = None,
) -> Pipeline:
    """Fit a pipeline, after checking that its estimator can predict the target.

    Args:
        model, features, target: the pipeline and the rows.
        scheme: the validation scheme; target encoding draws its folds in the same way.
        on_loss: called with the loss of each round (:mod:`pipeline.science.rounds`).

    Raises:
        PipelineError: a target of one class, a continuous one for a classifier, text for a
            regressor, or parameters the estimator refuses.
    """
    estimator, name = model[-1], type(model[-1]).__name__
    if is_classifier(estimator):
        if target.nunique() < 2:
            raise PipelineError(
                f"model.target={target.name!r} has only one value: {target.iloc[0]}",
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
    default_folds = model.get_params().get(encoding.MANY_FOLDS)
    folds = scheme.predefined_split(target, encoding.FOLDS) if scheme and default_folds else None
    try:
        if folds is None:
            return rounds.fit(model, features, target, on_loss)
        model.set_params(**{encoding.MANY_FOLDS: folds})
        model = rounds.fit(model, features, target, on_loss)
        return model.set_params(**{encoding.MANY_FOLDS: default_folds})  # not kept with the model
    # AttributeError: an inner object is no model
    except (ValueError, TypeError, AttributeError) as error:
        raise PipelineError(f"{name} can't be fitted: {error}", "check model.params") from error


def feature_kinds(features: pd.DataFrame) -> dict[str, str]:
    """The kind of each feature: ``number``, ``truth``, ``truth or gap`` or ``text``."""
    kinds = dict.fromkeys(features, "text")
    for name in features:
        if pd.api.types.is_bool_dtype(features[name]):
            kinds[name] = "truth"
        elif pd.api.types.is_numeric_dtype(features[name]):
            kinds[name] = "number"
        elif features[name].dtype == object:  # booleans with gaps; text has dtype str
            kinds[name] = "truth or gap"
    return kinds


def prediction_table(predictions: evaluation.Predictions, table: pd.DataFrame) -> pd.DataFrame:
    """The first test rows with the model's predictions."""
    rows = table.head(PREDICTIONS_SHOWN).copy()
    for name, predicted in predictions.columns("prediction").items():
        rows[name] = predicted[: len(rows)]
    if predictions.has_probabilities and predictions.scores is not None:
        rows["probability"] = predictions.scores[: len(rows)].max(axis=1)
    return rows
