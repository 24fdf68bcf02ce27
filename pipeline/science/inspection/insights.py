"""Insights beside a model's metrics: baselines, training metrics and the effects of features.

Pure functions.
"""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from sklearn.base import clone, is_classifier
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, average_precision_score, r2_score
from sklearn.pipeline import Pipeline

from pipeline.science import evaluation
from pipeline.science.evaluation import Predictions

LINEAR_CELLS = 1_000_000  # maximum of rows * columns * classes for the linear model
TRAINING_ROWS = 10_000  # maximum of training rows to measure
RANKED = 20  # maximum of classes for roc_auc and average_precision
REPEATS, PERMUTED_ROWS, PERMUTED = 5, 1000, 10  # shuffles; maxima of rows, features
CURVES, GRID, DEPENDENCE_ROWS, LINES = 3, 12, 200, 4  # maxima of features, values, rows, classes
SCORES = {
    "average_precision": average_precision_score,
    "accuracy": accuracy_score,
    "r2": r2_score,
}


def collect(
    model: Any,
    features: pd.DataFrame,
    target: Any,
    test: pd.DataFrame,
    predictions: Predictions,
    columns: list[str],
    positive: Any = None,
) -> dict[str, Any]:
    """The insights that a report shows beside a model's metrics, as plain values.

    Args:
        model: the fitted pipeline.
        features, target: the training rows.
        test: the test rows' features.
        predictions: the model's predictions for the test rows.
        columns: the features, most important first (:func:`rank_features`).
        positive: the positive class of a binary classifier.

    Returns:
        ``training``, ``dummy`` and ``linear``: metrics; ``permuted``: mean and standard deviation
        of the loss in ``permuted_score`` when a feature is shuffled; ``dependence``: partial
        dependence curves of the most important features.
    """
    return {
        "training": _on_training_rows(model, features, target, positive),
        **plain_models(model, features, target, test, predictions, positive),
        "permuted": permuted(model, test, predictions.truth, columns[:PERMUTED], positive),
        "permuted_score": score_of(predictions),
        "dependence": dependence(model, test, predictions, columns),
    }


def _on_training_rows(
    model: Any, features: pd.DataFrame, target: Any, positive: Any
) -> dict[str, float]:
    rows = features.sample(min(len(features), TRAINING_ROWS), random_state=0).index
    predictions = evaluation.predict(model, features.loc[rows], target.loc[rows], positive)
    return _metrics(predictions)


def _metrics(predictions: Predictions) -> dict[str, float]:
    """The metrics; with many classes without ROC AUC and average precision, which are slow."""
    many = predictions.classes is not None and len(predictions.classes) > RANKED
    return evaluation.metrics(replace(predictions, scores=None) if many else predictions)


def plain_models(
    model: Any, features: pd.DataFrame, target: Any, test: pd.DataFrame, predictions: Predictions,
    positive: Any = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """The test metrics of a dummy model, which ignores the features, and of a linear model.

    The linear model has the preprocessing of ``model``; without one there is no linear model. On a
    large table, it is fitted on a sample of the rows.

    Args:
        model: the fitted pipeline.
        features, target: the training rows.
        test: the test rows' features.
        predictions: the model's predictions, which hold the true values of the test rows.
        positive: the positive class of a binary classifier.
    """
    classes = predictions.classes is not None
    per_row = features.shape[1] * (len(predictions.labels) if classes else 1)
    count = min(len(features), max(LINEAR_CELLS // per_row, 1000))
    sample = features.sample(count, random_state=0).index
    truth = (
        pd.DataFrame(predictions.truth, columns=predictions.targets)
        if predictions.targets
        else pd.Series(predictions.truth)
    )
    dummy = DummyClassifier(strategy="prior") if classes else DummyRegressor()
    plain = {"dummy": (dummy, features.index)}
    if isinstance(model, Pipeline):
        linear = LogisticRegression(max_iter=300) if classes else Ridge()
        plain["linear"] = clone(model).set_params(**{model.steps[-1][0]: linear}), sample
    metrics_by_model = {}
    for name, (estimator, fit_rows) in plain.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # good enough to compare
                fitted = estimator.fit(features.loc[fit_rows], target.loc[fit_rows])
            metrics_by_model[name] = _metrics(evaluation.predict(fitted, test, truth, positive))
        except ValueError:  # the sampled rows may have a single class
            continue
    return metrics_by_model


def rank_features(importances: pd.Series, features: pd.DataFrame) -> list[str]:
    """The features, most important first, by the summed importances of their encoded columns."""
    sums = dict.fromkeys(map(str, features.columns), 0.0)
    for encoded, value in importances.items():
        name = str(encoded)
        while name and name not in sums:  # type_1_Fire encodes type_1
            name = name.rpartition("_")[0]
        if name:
            sums[name] += abs(float(value))
    return sorted(sums, key=lambda name: -sums[name])


def permuted(
    model: Any, test: pd.DataFrame, truth: np.ndarray, columns: list[str], positive: Any = None
) -> list[dict[str, Any]]:
    """The permutation importance of features on test rows: the loss in :func:`score_of`.

    One call of the model predicts all shuffled tables. scikit-learn's ``permutation_importance``
    calls it once for each table, which is about fifty times as slow.

    Args:
        model: the fitted pipeline.
        test, truth: the test rows' features and target.
        columns: the features, each of which is shuffled alone.
        positive: the positive class of a binary classifier.
    """
    draw = np.random.default_rng(0)
    order = draw.permutation(len(test))[:PERMUTED_ROWS]
    rows, truth_rows = test.iloc[order], truth[order]
    shuffled = (
        rows.assign(**{name: rows[name].array[draw.permutation(len(rows))]})
        for name in columns
        for _ in range(REPEATS)
    )
    tables = [rows, *shuffled]
    predictions = evaluation.predict(model, pd.concat(tables, ignore_index=True), None, positive)
    if predictions.scores is not None and score_of(predictions) == "average_precision":
        truth_rows = truth_rows == predictions.positive_class
        outputs = predictions.scores[:, predictions.positive_index]
    else:
        outputs = predictions.predicted
    scorer, parts = SCORES[score_of(predictions)], _parts(outputs, len(tables))
    reference, *shuffled_scores = (scorer(truth_rows, part) for part in parts)
    losses = reference - np.reshape(shuffled_scores, (len(columns), REPEATS))
    losses_by_feature = [
        {"name": name, "mean": float(feature_losses.mean()), "std": float(feature_losses.std())}
        for name, feature_losses in zip(columns, losses, strict=True)
        if np.isfinite(feature_losses).all()
    ]
    return sorted(losses_by_feature, key=lambda row: -row["mean"])


def score_of(predictions: Predictions) -> str:
    """The score of :func:`permuted`: average precision of two classes, else accuracy; or R²."""
    if predictions.classes is None:
        return "r2"
    ranked = len(predictions.classes) == 2 and predictions.scores is not None
    return "average_precision" if ranked else "accuracy"


def _parts(outputs: Any, count: int) -> list[np.ndarray]:
    return np.split(np.asarray(outputs), count)


def dependence(
    model: Any, test: pd.DataFrame, predictions: Predictions, columns: list[str]
) -> list[dict[str, Any]]:
    """Partial dependence: the mean prediction if all test rows had one value of a feature.

    Unlike scikit-learn's ``partial_dependence``, it calls the model once for all values.

    Args:
        model: the fitted pipeline.
        test: the test rows' features.
        predictions: the model's predictions for them.
        columns: features, most important first; the first ``CURVES`` numeric ones are used.

    Returns:
        For each feature its ``name``, and ``lines`` with a ``label`` and ``points`` each.
    """
    rows = test.sample(min(len(test), DEPENDENCE_ROWS), random_state=0)
    grids: dict[str, np.ndarray] = {}
    for name in columns:
        column = test[name]
        if is_numeric_dtype(column) and not is_bool_dtype(column) and len(grids) < CURVES:
            values = column.dropna().unique()
            low, high = np.quantile(column.dropna(), (0.02, 0.98)) if len(values) else (0, 0)
            if low < high:
                distinct = np.sort(values[(values >= low) & (values <= high)])
                grids[name] = (
                    distinct if 1 < len(distinct) <= GRID else np.linspace(low, high, GRID)
                )
    if not grids:
        return []
    tables = [rows.assign(**{name: value}) for name, grid in grids.items() for value in grid]
    varied = evaluation.predict(model, pd.concat(tables, ignore_index=True), None)
    outputs = varied.predicted if varied.scores is None else varied.scores
    if is_classifier(model) and varied.scores is None:
        return []  # classes have no mean
    means = iter([part.mean(axis=0) for part in _parts(outputs, len(tables))])
    return [
        {"name": name, "lines": _lines(predictions, grid, np.array([next(means) for _ in grid]))}
        for name, grid in grids.items()
    ]


def _lines(predictions: Predictions, grid: np.ndarray, means: np.ndarray) -> list[dict[str, Any]]:
    """The curves of the positive of two classes, of the largest classes, or of each target."""
    if predictions.classes is None:
        columns = means[:, None] if means.ndim == 1 else means
        line_by_label = dict(zip(predictions.targets or ("",), columns.T, strict=True))
    elif len(predictions.classes) == 2:
        line_by_label = {str(predictions.positive_class): means[:, predictions.positive_index]}
    else:
        counts = [int((predictions.truth == label).sum()) for label in predictions.classes]
        common = sorted(np.argsort(counts, kind="stable")[::-1][:LINES])
        line_by_label = {str(predictions.classes[index]): means[:, index] for index in common}
    return [
        {
            "label": label,
            "points": [(float(x), float(y)) for x, y in zip(grid, line, strict=True)],
        }
        for label, line in [*line_by_label.items()][:LINES]
    ]
