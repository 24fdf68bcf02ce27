"""Where a model is right and where it is off: what a report's figures and tables are drawn from.

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

POINTS, CLASSES, COLUMNS, SLICES = 200, 25, 12, 4  # at most so many are shown
BINS, VALUES, LONG = 16, 8, 10
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OTHER, MISSING = "(other)", "(missing)"
COSTS = ("false_positive", "false_negative")


def calibration(predictions: Predictions) -> dict[str, Any] | None:
    """How often what is given a probability is true, and the Brier score.

    Of two classes the positive one; of more, whether the predicted class is the true one. None
    where the model gives no probabilities.
    """
    scores = predictions.scores if predictions.has_probabilities else None
    if scores is None or len(predictions.labels) < 2:
        return None
    if len(predictions.labels) == 2:
        held = predictions.truth == predictions.positive_class
        sure = scores[:, predictions.positive_index]
    else:
        held, sure = predictions.truth == predictions.predicted, scores.max(axis=1)
    sure = np.clip(sure, 0, 1)
    bins = min(LONG, max(len(sure) // 10, 2))
    true, told = calibration_curve(held, sure, n_bins=bins, strategy="quantile")
    brier = float(np.mean((sure - held) ** 2))
    return {"brier": brier, "points": [*zip(told.tolist(), true.tolist(), strict=True)]}


def operating_point(predictions: Predictions) -> dict[str, tuple[float, float]]:
    """Where the model's own decisions lie on the ROC and the precision-recall curve."""
    held = predictions.truth == predictions.positive_class
    named = predictions.predicted == predictions.positive_class
    hits, wrong = int((held & named).sum()), int((~held & named).sum())
    if not held.any() or held.all():
        return {}
    recall = hits / int(held.sum())
    point = {"roc": (wrong / int((~held).sum()), recall)}
    if hits + wrong:
        point["precision_recall"] = (recall, hits / (hits + wrong))
    return point


def per_class(predictions: Predictions) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class, those with the most test rows first."""
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
    """The pairs of classes that are taken for each other most often."""
    columns = {"true": predictions.truth, "predicted": predictions.predicted}
    pairs = pd.DataFrame(columns).astype(str)
    pairs = pairs[pairs["true"] != pairs["predicted"]]
    counts = pairs.value_counts().head(CLASSES)
    return [{"true": a, "predicted": b, "rows": int(n)} for (a, b), n in counts.items()]


def errors(predictions: Predictions) -> list[dict[str, float]]:
    """The quantiles of the error, predicted minus true."""
    off = predictions.predicted - predictions.truth
    return [{"share": share, "error": float(np.quantile(off, share))} for share in QUANTILES]


def thinned(*columns: Any) -> list[tuple[float, ...]]:
    """At most so many rows of some columns, the first and the last among them."""
    count = len(columns[0])
    kept = np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(int))
    return [tuple(float(column[row]) for column in columns) for row in kept]


def slices(
    predictions: Predictions, features: pd.DataFrame, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The residuals against each of the leading features that are numbers."""
    found = []
    for name in names:
        column = features[name]
        if not is_number(column) or column.nunique() < 2:
            continue
        known = column.notna().to_numpy()
        off = (predictions.truth - predictions.predicted)[known]
        found.append({"name": name, "points": thinned(column.to_numpy()[known], off)})
        if len(found) == SLICES:
            break
    return found


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers, and not truth values."""
    return bool(is_numeric_dtype(column) and not is_bool_dtype(column))


def histograms(parts: Mapping[str, pd.DataFrame], names: Sequence[str]) -> list[dict[str, Any]]:
    """How the values of columns are spread in several tables, in shares of the rows.

    Args:
        parts: tables by what to call them; the bins are those of all of them.
        names: the columns.

    Returns:
        By column its ``name``, the ``shares`` of each table, and ``edges`` of the bins of numbers,
        or the ``labels`` of words.
    """
    found = []
    for name in names:
        columns = {part: table[name] for part, table in parts.items() if name in table}
        together = pd.concat([*columns.values()], ignore_index=True)
        if not together.notna().any():
            continue
        told = _numbers if all(map(is_number, columns.values())) else _words
        found.append({"name": name, **told(columns, together)})
    return found


def _numbers(columns: Mapping[str, pd.Series], together: pd.Series) -> dict[str, Any]:
    values = together.dropna().astype(float)
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    few = values.nunique() <= BINS and bool((values % 1 == 0).all()) and high - low < BINS
    edges = np.arange(low - 0.5, high + 1) if few else np.linspace(low, high or low + 1, BINS + 1)
    if low == high:
        edges = np.array([low - 0.5, low + 0.5])
    shares = {
        part: (np.histogram(column.dropna().astype(float), edges)[0] / max(len(column), 1)).tolist()
        for part, column in columns.items()
    }
    return {"edges": edges.tolist(), "shares": shares}


def _words(columns: Mapping[str, pd.Series], together: pd.Series) -> dict[str, Any]:
    top = [str(value) for value in together.dropna().astype(str).value_counts().index[:VALUES]]
    shares = {}
    for part, column in columns.items():
        told = column.astype(object).map(str, na_action="ignore")
        counts, gaps = told.value_counts(), int(told.isna().sum())
        row = [int(counts.get(value, 0)) for value in top]
        row += [len(told) - gaps - sum(row), gaps]
        shares[part] = [number / max(len(told), 1) for number in row]
    labels = [*top, OTHER, MISSING]
    empty = [not any(row[place] for row in shares.values()) for place in range(len(labels))]
    return {
        "labels": [label for label, none in zip(labels, empty, strict=True) if not none],
        "shares": {
            part: [value for value, none in zip(row, empty, strict=True) if not none]
            for part, row in shares.items()
        },
    }


def costs(told: Mapping[str, Any], given: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each threshold with what its mistakes cost.

    Args:
        told: ``classes``, and ``thresholds`` with how many rows are ``wrong`` and ``missed``.
        given: what a ``false_positive`` and a ``false_negative`` cost.

    Raises:
        PipelineError: the model has no threshold, or these are no costs.
    """
    numbers = [isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in given.values()]
    if set(given) != set(COSTS) or not all(numbers):
        raise PipelineError(
            f"report.costs={dict(given)} are no costs of mistakes",
            "give both, 0 or more: report.costs='{false_positive: 1, false_negative: 5}'",
        )
    if "thresholds" not in told or len(told["classes"]) != 2:
        raise PipelineError(
            "report.costs is set, and the model has no threshold between two classes",
            "leave report.costs out; it is for a classifier of two classes with scores",
        )
    wrong, missed = (given[name] for name in COSTS)
    return [
        {**row, "cost": row["wrong"] * wrong + row["missed"] * missed} for row in told["thresholds"]
    ]
