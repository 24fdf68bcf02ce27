"""Confidence intervals of metrics: 95% percentile intervals from a bootstrap of the test rows.

A resample is a vector of weights: how often each row was drawn. A metric is computed for all
resamples at once, which takes milliseconds. Calling scikit-learn for each of a thousand resamples
takes seconds. With weights of one the metrics equal :func:`pipeline.science.evaluation.metrics`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.science.evaluation import multi_target_metrics

ROWS = 50_000  # rows drawn from a larger table; its interval is narrowed to fit all rows
AT_ONCE = 4_000_000  # weights per batch
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
        measure: takes the positions of rows and returns a function from weights of these rows,
            shape (resamples, rows), to each metric's values, one per resample.
        rows: the number of rows.
        metrics: the metrics on all rows.
        resamples: the number of resamples.
        random_state: seed of the resamples.
    """
    generator = np.random.default_rng(random_state)
    size = min(rows, ROWS)
    chosen = (
        np.arange(rows) if size == rows else np.sort(generator.choice(rows, size, replace=False))
    )
    values_of = measure(chosen)
    uniform, step = np.full(size, 1 / size), max(AT_ONCE // size, 1)
    batches = [
        values_of(generator.multinomial(size, uniform, min(step, resamples - start)).astype(float))
        for start in range(0, resamples, step)
    ]
    metric_values = {
        name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]
    }
    unweighted = values_of(np.ones((1, size)))
    shrinkage = np.sqrt(size / rows)  # the width is proportional to 1 / sqrt(rows)
    metric_intervals = {}
    for name in metrics.keys() & metric_values.keys():
        values = metric_values[name][np.isfinite(metric_values[name])]
        if len(values):
            ends = np.percentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
            low, high = metrics[name] + (ends - unweighted[name][0]) * shrinkage
            metric_intervals[name] = (float(low), float(high))
    return metric_intervals


def class_measure(
    truth: np.ndarray,
    predicted: np.ndarray,
    scores: np.ndarray | None,
    classes: Sequence[Any],
    positive_index: int = 1,
) -> Callable[[np.ndarray], Measure]:
    """A classifier's metrics, for :func:`intervals`.

    Args:
        truth, predicted: each row's class.
        scores: the score of each row for each class, or None.
        classes: the model's classes.
        positive_index: the index of the positive class of a binary classifier.
    """
    binary = len(classes) == 2

    def measure(chosen: np.ndarray) -> Measure:
        y_true, y_pred = truth[chosen], predicted[chosen]
        labels = [classes[positive_index]] if binary else sorted({*y_true, *y_pred}, key=str)
        is_true = np.column_stack([y_true == label for label in labels]).astype(float)
        is_predicted = np.column_stack([y_pred == label for label in labels]).astype(float)

        def values(weights: np.ndarray) -> dict[str, np.ndarray]:
            actual_count, predicted_count = weights @ is_true, weights @ is_predicted
            hits = weights @ (is_true * is_predicted)
            support = actual_count + predicted_count
            present = support > 0  # a mean leaves out the classes that a resample lacks
            results = {"accuracy": weights @ (y_true == y_pred) / weights.sum(axis=1)}
            denominators = {"precision": predicted_count, "recall": actual_count, "f1": support / 2}
            for name, total in denominators.items():
                shares = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
                results[name] = shares.sum(axis=1) / np.maximum(present.sum(axis=1), 1)
            if scores is not None:
                indices = [positive_index] if binary else range(len(classes))
                curves = [
                    areas(y_true == classes[index], scores[chosen, index], weights)
                    for index in indices
                ]
                results["roc_auc"], results["average_precision"] = np.mean(curves, axis=0)
            return results

        return values

    return measure


def areas(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """ROC AUC and average precision, shape (2, resamples); nan where a class is absent."""
    order = np.argsort(-scores, kind="stable")
    # equal scores are one threshold
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))
    positive = np.add.reduceat(weights[:, order] * truth[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~truth[order], starts, axis=1)
    hits, misses = positive.cumsum(axis=1), negative.cumsum(axis=1)
    flagged, total = hits + misses, hits[:, -1:] * misses[:, -1:]
    precision = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (negative * (hits - positive / 2)).sum(axis=1) / total[:, 0]
        average = (positive * precision).sum(axis=1) / hits[:, -1]
    return np.array([area, np.where(np.isfinite(area), average, np.nan)])


def several_measure(
    truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> Callable[[np.ndarray], Measure]:
    """A regressor's metrics of several targets, for :func:`intervals`."""
    pairs = zip(names, truth.T, predicted.T, strict=True)
    measures = {name: number_measure(true, values) for name, true, values in pairs}

    def measure(chosen: np.ndarray) -> Measure:
        parts = {name: measure_target(chosen) for name, measure_target in measures.items()}
        return lambda weights: multi_target_metrics(
            {name: measure_target(weights) for name, measure_target in parts.items()}
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
