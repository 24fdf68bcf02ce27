"""How sure a metric is: 95% intervals from a bootstrap of the test rows.

A resample is a vector of weights, how often each row was drawn, and a metric is computed for all
resamples at once. Drawing rows and calling scikit-learn a thousand times takes seconds; this takes
milliseconds, and on weights of one it gives what :func:`pipeline.science.evaluation.metrics` gives.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.science.evaluation import multi_target_metrics

ROWS = 50_000  # of a larger table so many are drawn, and the interval is narrowed to fit the whole
AT_ONCE = 4_000_000  # weights
LEVEL = 95.0

Measure = Callable[[np.ndarray], dict[str, np.ndarray]]


def intervals(
    measure: Callable[[np.ndarray], Measure],
    rows: int,
    metrics: Mapping[str, float],
    resamples: int,
    random_state: int,
) -> dict[str, tuple[float, float]]:
    """The 95% percentile interval of each metric.

    Args:
        measure: given the places of rows, a function from weights of these rows, shape
            (resamples, rows), to each metric's values, one per resample.
        rows: how many rows there are.
        metrics: the metrics on all of them.
        resamples: how often they are drawn.
        random_state: seed of the draw.
    """
    draw = np.random.default_rng(random_state)
    size = min(rows, ROWS)
    chosen = np.arange(rows) if size == rows else np.sort(draw.choice(rows, size, replace=False))
    measured = measure(chosen)
    even, step = np.full(size, 1 / size), max(AT_ONCE // size, 1)
    pieces = [
        measured(draw.multinomial(size, even, min(step, resamples - done)).astype(float))
        for done in range(0, resamples, step)
    ]
    drawn = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    there = measured(np.ones((1, size)))
    shrunk = np.sqrt(size / rows)  # an interval's width goes with the root of the rows
    found = {}
    for name in metrics.keys() & drawn.keys():
        values = drawn[name][np.isfinite(drawn[name])]
        if len(values):
            ends = np.percentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
            low, high = metrics[name] + (ends - there[name][0]) * shrunk
            found[name] = (float(low), float(high))
    return found


def class_measure(
    truth: np.ndarray,
    predicted: np.ndarray,
    scores: np.ndarray | None,
    classes: Sequence[Any],
    place: int = 1,
) -> Callable[[np.ndarray], Measure]:
    """A classifier's metrics, for :func:`intervals`.

    Args:
        truth, predicted: each row's class.
        scores: how much each row belongs to each class, or None.
        classes: the model's classes.
        place: of two classes the place of the positive one.
    """
    two = len(classes) == 2

    def measure(chosen: np.ndarray) -> Measure:
        true, said = truth[chosen], predicted[chosen]
        labels = [classes[place]] if two else sorted({*true, *said}, key=str)
        is_true = np.column_stack([true == label for label in labels]).astype(float)
        is_said = np.column_stack([said == label for label in labels]).astype(float)

        def values(weights: np.ndarray) -> dict[str, np.ndarray]:
            there, named = weights @ is_true, weights @ is_said
            hits = weights @ (is_true * is_said)
            seen = there + named > 0  # a class that a resample lacks does not count in its mean
            found = {"accuracy": weights @ (true == said) / weights.sum(axis=1)}
            for name, of in ("precision", named), ("recall", there), ("f1", (there + named) / 2):
                shares = np.divide(hits, of, out=np.zeros_like(hits), where=of > 0)
                found[name] = shares.sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
            if scores is not None:
                places = [place] if two else range(len(classes))
                curves = [
                    areas(true == classes[each], scores[chosen, each], weights) for each in places
                ]
                found["roc_auc"], found["average_precision"] = np.mean(curves, axis=0)
            return found

        return values

    return measure


def areas(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """ROC AUC and average precision, shape (2, resamples); nan where a class is absent."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))  # rows of one score are one
    positive = np.add.reduceat(weights[:, order] * truth[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~truth[order], starts, axis=1)
    hits, misses = positive.cumsum(axis=1), negative.cumsum(axis=1)
    above, total = hits + misses, hits[:, -1:] * misses[:, -1:]
    precision = np.divide(hits, above, out=np.zeros_like(hits), where=above > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (negative * (hits - positive / 2)).sum(axis=1) / total[:, 0]
        average = (positive * precision).sum(axis=1) / hits[:, -1]
    return np.array([area, np.where(np.isfinite(area), average, np.nan)])


def several_measure(
    truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> Callable[[np.ndarray], Measure]:
    """A regressor's metrics of several targets, for :func:`intervals`."""
    pairs = zip(names, truth.T, predicted.T, strict=True)
    each = {name: number_measure(true, said) for name, true, said in pairs}

    def measure(chosen: np.ndarray) -> Measure:
        parts = {name: one(chosen) for name, one in each.items()}
        return lambda weights: multi_target_metrics(
            {name: one(weights) for name, one in parts.items()}
        )

    return measure


def number_measure(truth: np.ndarray, predicted: np.ndarray) -> Callable[[np.ndarray], Measure]:
    """A regressor's metrics, for :func:`intervals`."""

    def measure(chosen: np.ndarray) -> Measure:
        errors = truth[chosen] - predicted[chosen]
        true = truth[chosen] - truth.mean()  # far from zero the sum of squares loses its digits

        def values(weights: np.ndarray) -> dict[str, np.ndarray]:
            rows, squares = weights.sum(axis=1), weights @ errors**2
            mean = weights @ true / rows
            spread = weights @ true**2 - rows * mean**2
            with np.errstate(invalid="ignore", divide="ignore"):
                explained = 1 - squares / spread
            return {
                "rmse": np.sqrt(squares / rows),
                "mae": weights @ np.abs(errors) / rows,
                "r2": np.where(spread > 0, explained, np.nan),
            }

        return values

    return measure
