"""What stands beside a model's metrics: plain models, training rows, and what its features do.

Made where the model is fitted, from what is in memory, and kept with the model. Pure functions.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from sklearn.base import BaseEstimator, is_classifier
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, average_precision_score, r2_score

from pipeline.science import evaluation
from pipeline.science.evaluation import Predictions

Build = Callable[[BaseEstimator], Any]  # an estimator with the model's own preprocessing

LINEAR_CELLS = 20_000_000  # rows times columns times classes that a linear model is fitted on
TRAINING_ROWS = 50_000  # that are measured
RANKED = 20  # classes that roc_auc and average_precision are measured of
REPEATS, PERMUTED_ROWS, PERMUTED = 5, 1000, 10  # shuffles, rows, features at most
CURVES, GRID, DEPENDENCE_ROWS, LINES = 3, 12, 200, 4  # features, values, rows, classes at most
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
    importances: pd.Series,
    build: Build,
    positive: Any = None,
) -> dict[str, Any]:
    """What a report shows beside a model's own metrics, as plain values.

    Args:
        model: the fitted pipeline.
        features, target: the training rows.
        test: the test rows' features.
        predictions: what the model says of the test rows.
        importances: the model's own, by prepared feature.
        build: makes a pipeline with the model's preprocessing from an estimator.
        positive: of two classes the one that the metrics are of.

    Returns:
        ``training``, ``dummy`` and ``linear``: metrics; ``permuted``: mean and standard deviation
        of what each feature's shuffling costs of ``permuted_score``; ``dependence``: curves of
        the leading features.
    """
    columns = rank_features(importances, features)
    return {
        "training": _on_training_rows(model, features, target, positive),
        **plain_models(features, target, test, predictions, build, positive),
        "permuted": permuted(model, test, predictions.truth, columns[:PERMUTED], positive),
        "permuted_score": score_of(predictions),
        "dependence": dependence(model, test, predictions, columns),
    }


def _on_training_rows(
    model: Any, features: pd.DataFrame, target: Any, positive: Any
) -> dict[str, float]:
    rows = features.sample(min(len(features), TRAINING_ROWS), random_state=0).index
    known = evaluation.predict(model, features.loc[rows], target.loc[rows], positive)
    return _metrics(known)


def _metrics(predictions: Predictions) -> dict[str, float]:
    """The metrics; of many classes without the two that take a while for each class."""
    many = predictions.classes is not None and len(predictions.classes) > RANKED
    return evaluation.metrics(replace(predictions, scores=None) if many else predictions)


def plain_models(
    features: pd.DataFrame, target: Any, test: pd.DataFrame, predictions: Predictions, build: Build,
    positive: Any = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """The metrics of a model that ignores the features, and of a linear one, on the test rows.

    Of a large table, the linear model is fitted on a part of the rows.

    Args:
        features, target: the training rows.
        test, predictions: the test rows' features, and the answers that hold the truth about them.
        build: makes a pipeline with the model's preprocessing from an estimator.
        positive: of two classes the one that the metrics are of.
    """
    classes = predictions.classes is not None
    dummy = DummyClassifier(strategy="prior") if classes else DummyRegressor()
    linear = LogisticRegression(max_iter=300) if classes else Ridge()
    per_row = features.shape[1] * (len(predictions.labels) if classes else 1)
    count = min(len(features), max(LINEAR_CELLS // per_row, 1000))
    rows = features.sample(count, random_state=0).index
    truth = (
        pd.DataFrame(predictions.truth, columns=predictions.targets)
        if predictions.targets
        else pd.Series(predictions.truth)
    )
    found = {}
    for name, estimator in {"dummy": dummy, "linear": linear}.items():
        chosen = features.index if name == "dummy" else rows
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # it is a yardstick
                model = estimator if name == "dummy" else build(estimator)
                fitted = model.fit(features.loc[chosen], target.loc[chosen])
            told = evaluation.predict(fitted, test, truth, positive)
            found[name] = _metrics(told)
        except ValueError:  # these rows don't allow one: a single class among those drawn
            continue
    return found


def rank_features(importances: pd.Series, features: pd.DataFrame) -> list[str]:
    """The features, the most important first, from the importances of what they were encoded as."""
    sums = dict.fromkeys(map(str, features.columns), 0.0)
    for encoded, value in importances.items():
        name = str(encoded)
        while name and name not in sums:  # type_1_Fire is of type_1
            name = name.rpartition("_")[0]
        if name:
            sums[name] += abs(float(value))
    return sorted(sums, key=lambda name: -sums[name])


def permuted(
    model: Any, test: pd.DataFrame, truth: np.ndarray, columns: list[str], positive: Any = None
) -> list[dict[str, Any]]:
    """How much worse the model's score gets when a feature's values are shuffled among test rows.

    The score is :func:`score_of`. All shuffled tables are predicted at once:
    scikit-learn's ``permutation_importance`` asks the model once for each, fifty times as slow.

    Args:
        model: the fitted pipeline.
        test, truth: test rows.
        columns: the features to shuffle, each alone.
        positive: of two classes the one that the metrics are of.
    """
    draw = np.random.default_rng(0)
    places = draw.permutation(len(test))[:PERMUTED_ROWS]
    rows, known = test.iloc[places], truth[places]
    shuffled = (
        rows.assign(**{name: rows[name].array[draw.permutation(len(rows))]})
        for name in columns
        for _ in range(REPEATS)
    )
    tables = [rows, *shuffled]
    told = evaluation.predict(model, pd.concat(tables, ignore_index=True), None, positive)
    if told.scores is not None and score_of(told) == "average_precision":
        known, answers = known == told.positive_class, told.scores[:, told.positive_index]
    else:
        answers = told.predicted
    first, *rest = (SCORES[score_of(told)](known, part) for part in _parts(answers, len(tables)))
    losses = first - np.reshape(rest, (len(columns), REPEATS))
    found = [
        {"name": name, "mean": float(some.mean()), "std": float(some.std())}
        for name, some in zip(columns, losses, strict=True)
        if np.isfinite(some).all()
    ]
    return sorted(found, key=lambda one: -one["mean"])


def score_of(predictions: Predictions) -> str:
    """What :func:`permuted` measures: average precision of two classes, else accuracy; or R²."""
    if predictions.classes is None:
        return "r2"
    ranked = len(predictions.classes) == 2 and predictions.scores is not None
    return "average_precision" if ranked else "accuracy"


def _parts(answers: Any, count: int) -> list[np.ndarray]:
    return np.split(np.asarray(answers), count)


def dependence(
    model: Any, test: pd.DataFrame, predictions: Predictions, columns: list[str]
) -> list[dict[str, Any]]:
    """The mean prediction over test rows if each had a certain value of a feature.

    Like scikit-learn's ``partial_dependence``, with one call of the model for all values.

    Args:
        model: the fitted pipeline.
        test, predictions: the test rows' features, and what the model says of them.
        columns: features, the most important first; those that are numbers are shown.

    Returns:
        By feature its ``name``, and ``lines``: a ``label`` and ``points`` each.
    """
    rows = test.sample(min(len(test), DEPENDENCE_ROWS), random_state=0)
    grids: dict[str, np.ndarray] = {}
    for name in columns:
        column = test[name]
        if is_numeric_dtype(column) and not is_bool_dtype(column) and len(grids) < CURVES:
            values = column.dropna().unique()
            low, high = np.quantile(column.dropna(), (0.02, 0.98)) if len(values) else (0, 0)
            if low < high:
                few = np.sort(values[(values >= low) & (values <= high)])
                grids[name] = few if 1 < len(few) <= GRID else np.linspace(low, high, GRID)
    if not grids:
        return []
    tables = [rows.assign(**{name: value}) for name, grid in grids.items() for value in grid]
    scored = evaluation.predict(model, pd.concat(tables, ignore_index=True), None)
    told = scored.predicted if scored.scores is None else scored.scores
    if is_classifier(model) and scored.scores is None:
        return []  # it says a class, and not how much
    means = iter([part.mean(axis=0) for part in _parts(told, len(tables))])
    return [
        {"name": name, "lines": _lines(predictions, grid, np.array([next(means) for _ in grid]))}
        for name, grid in grids.items()
    ]


def _lines(predictions: Predictions, across: np.ndarray, up: np.ndarray) -> list[dict[str, Any]]:
    """A line for the positive of two classes, the commonest of more, or each target."""
    if predictions.classes is None:
        lines = up[:, None] if up.ndim == 1 else up
        named = dict(zip(predictions.targets or ("",), lines.T, strict=True))
    elif len(predictions.classes) == 2:
        named = {str(predictions.positive_class): up[:, predictions.positive_index]}
    else:
        counts = [int((predictions.truth == label).sum()) for label in predictions.classes]
        common = sorted(np.argsort(counts, kind="stable")[::-1][:LINES])
        named = {str(predictions.classes[place]): up[:, place] for place in common}
    return [
        {
            "label": label,
            "points": [(float(x), float(y)) for x, y in zip(across, line, strict=True)],
        }
        for label, line in [*named.items()][:LINES]
    ]
