"""Where a model is right and wrong: the values behind a report's figures and tables.

Pure functions of a model's predictions for the test rows (:class:`evaluation.Predictions`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from sklearn import metrics as score
from sklearn.calibration import calibration_curve

from pipeline.core.errors import PipelineError
from pipeline.science.evaluation import Predictions

POINTS, CLASSES, COLUMNS, SLICES = 200, 25, 12, 4  # maxima that a report shows
BINS, VALUES, LONG = 16, 8, 10
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OTHER, MISSING = "(other)", "(missing)"
COSTS = ("false_positive", "false_negative")


def calibration(predictions: Predictions) -> dict[str, Any] | None:
    """The calibration curve, as pairs of predicted and observed share, and the Brier score.

    A binary classifier is calibrated by the positive class; with more classes, by whether the
    predicted class is the true class. None if the model has no probabilities.
    """
    scores = predictions.scores if predictions.has_probabilities else None
    if scores is None or len(predictions.labels) < 2:
        return None
    if len(predictions.labels) == 2:
        is_true = predictions.truth == predictions.positive_class
        confidence = scores[:, predictions.positive_index]
    else:
        is_true, confidence = predictions.truth == predictions.predicted, scores.max(axis=1)
    confidence = np.clip(confidence, 0, 1)
    bins = min(LONG, max(len(confidence) // 10, 2))
    observed, expected = calibration_curve(is_true, confidence, n_bins=bins, strategy="quantile")
    brier = float(np.mean((confidence - is_true) ** 2))
    return {"brier": brier, "points": [*zip(expected.tolist(), observed.tolist(), strict=True)]}


def operating_point(predictions: Predictions) -> dict[str, tuple[float, float]]:
    """The point of the model's own decisions on the ROC and precision-recall curves."""
    actual = predictions.truth == predictions.positive_class
    flagged = predictions.predicted == predictions.positive_class
    true_positives, false_positives = int((actual & flagged).sum()), int((~actual & flagged).sum())
    if not actual.any() or actual.all():
        return {}
    recall = true_positives / int(actual.sum())
    point = {"roc": (false_positives / int((~actual).sum()), recall)}
    if true_positives + false_positives:
        point["precision_recall"] = (recall, true_positives / (true_positives + false_positives))
    return point


def per_class(predictions: Predictions) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class, the class with the most test rows first."""
    labels = predictions.all_labels
    parts = score.precision_recall_fscore_support(
        predictions.truth, predictions.predicted, labels=labels, zero_division=0
    )
    rows = [
        {"name": str(label), "precision": p, "recall": r, "f1": f, "rows": int(n)}
        for label, p, r, f, n in zip(labels, *(part.tolist() for part in parts), strict=True)
    ]
    return sorted(rows, key=lambda row: -row["rows"])


def confused(predictions: Predictions) -> list[dict[str, Any]]:
    """The pairs of true and predicted class that are confused most often."""
    columns = {"true": predictions.truth, "predicted": predictions.predicted}
    pairs = pd.DataFrame(columns).astype(str)
    pairs = pairs[pairs["true"] != pairs["predicted"]]
    counts = pairs.value_counts().head(CLASSES)
    return [{"true": a, "predicted": b, "rows": int(n)} for (a, b), n in counts.items()]


def errors(predictions: Predictions) -> list[dict[str, float]]:
    """The quantiles of the error, predicted minus true."""
    differences = predictions.predicted - predictions.truth
    return [
        {"share": share, "error": float(np.quantile(differences, share))} for share in QUANTILES
    ]


def thinned(*columns: Any) -> list[tuple[float, ...]]:
    """At most ``POINTS`` rows of the columns, evenly spaced, with the first and the last row."""
    count = len(columns[0])
    indices = np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(int))
    return [tuple(float(column[index]) for column in columns) for index in indices]


def slices(
    predictions: Predictions, features: pd.DataFrame, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The residuals against each of the most important numeric features."""
    features_shown = []
    for name in names:
        column = features[name]
        if not is_number(column) or column.nunique() < 2:
            continue
        has_value = column.notna().to_numpy()
        residuals = (predictions.truth - predictions.predicted)[has_value]
        points = thinned(column.to_numpy()[has_value], residuals)
        features_shown.append({"name": name, "points": points})
        if len(features_shown) == SLICES:
            break
    return features_shown


def is_number(column: pd.Series) -> bool:
    """Whether a column is numeric and not boolean."""
    return bool(is_numeric_dtype(column) and not is_bool_dtype(column))


def histograms(parts: Mapping[str, pd.DataFrame], names: Sequence[str]) -> list[dict[str, Any]]:
    """The distribution of each column in several tables, as shares of the rows.

    Args:
        parts: tables by name; the bins cover the values of all tables.
        names: the columns.

    Returns:
        For each column its ``name``, the ``shares`` of each table, and the ``edges`` of the bins
        of numbers or the ``labels`` of words.
    """
    rows = []
    for name in names:
        columns = {part: table[name] for part, table in parts.items() if name in table}
        combined = pd.concat([*columns.values()], ignore_index=True)
        if not combined.notna().any():
            continue
        bin_column = _numbers if all(map(is_number, columns.values())) else _words
        rows.append({"name": name, **bin_column(columns, combined)})
    return rows


def _numbers(columns: Mapping[str, pd.Series], combined: pd.Series) -> dict[str, Any]:
    values = combined.dropna().astype(float)
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    one_bin_per_integer = (
        values.nunique() <= BINS and bool((values % 1 == 0).all()) and high - low < BINS
    )
    edges = (
        np.arange(low - 0.5, high + 1)
        if one_bin_per_integer
        else np.linspace(low, high or low + 1, BINS + 1)
    )
    if low == high:
        edges = np.array([low - 0.5, low + 0.5])
    shares = {
        part: (np.histogram(column.dropna().astype(float), edges)[0] / max(len(column), 1)).tolist()
        for part, column in columns.items()
    }
    return {"edges": edges.tolist(), "shares": shares}


def _words(columns: Mapping[str, pd.Series], combined: pd.Series) -> dict[str, Any]:
    top = [str(value) for value in combined.dropna().astype(str).value_counts().index[:VALUES]]
    shares = {}
    for part, column in columns.items():
        cells = column.astype(object).map(str, na_action="ignore")
        counts, gaps = cells.value_counts(), int(cells.isna().sum())
        row = [int(counts.get(value, 0)) for value in top]
        row += [len(cells) - gaps - sum(row), gaps]
        shares[part] = [number / max(len(cells), 1) for number in row]
    labels = [*top, OTHER, MISSING]
    unused = [not any(row[index] for row in shares.values()) for index in range(len(labels))]
    return {
        "labels": [label for label, is_empty in zip(labels, unused, strict=True) if not is_empty],
        "shares": {
            part: [value for value, is_empty in zip(row, unused, strict=True) if not is_empty]
            for part, row in shares.items()
        },
    }


def costs(measured: Mapping[str, Any], prices: Mapping[str, float]) -> list[dict[str, Any]]:
    """The cost of the mistakes at each threshold.

    Args:
        measured: ``classes``, and ``thresholds`` with the numbers of rows ``wrong`` and ``missed``.
        prices: the costs of a ``false_positive`` and a ``false_negative``.

    Raises:
        PipelineError: the model has no threshold, or the costs are invalid.
    """
    numbers = [isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in prices.values()]
    if set(prices) != set(COSTS) or not all(numbers):
        raise PipelineError(
            f"report.costs={dict(prices)} are not the costs of both kinds of mistakes",
            "give both, 0 or more: report.costs='{false_positive: 1, false_negative: 5}'",
        )
    if "thresholds" not in measured or len(measured["classes"]) != 2:
        raise PipelineError(
            "report.costs is set, and the model has no threshold between two classes",
            "leave report.costs out; it is for a classifier of two classes with scores",
        )
    wrong, missed = (prices[name] for name in COSTS)
    return [
        {**row, "cost": row["wrong"] * wrong + row["missed"] * missed}
        for row in measured["thresholds"]
    ]
