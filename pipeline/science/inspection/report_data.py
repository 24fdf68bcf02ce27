"""The contents of a report on a model and its data: tables and curves, as plain values.

Pure functions; the report's template formats the values.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as score

from pipeline.core import numbers
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.science import evaluation, tasks
from pipeline.science.data import drift
from pipeline.science.data.kinds import expand
from pipeline.science.inspection import diagnostics, insights, intervals
from pipeline.science.inspection.diagnostics import thinned

CURVES, BARS, CLASSES = 8, 15, 25  # maxima that a report shows
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def model_features(model: Any, table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The columns that the model was fitted on, numbers as floats.

    Raises:
        PipelineError: the table lacks a column.
    """
    columns = list(model.feature_names_in_)
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise PipelineError(
            f"{reference} lacks {lacking[0]!r}, which the model was fitted on"
            f"{did_you_mean(lacking[0], table.columns)}",
            "name the data and the model of one run",
        )
    features = table[columns]
    return features.astype(dict.fromkeys(features.select_dtypes("number").columns, "float64"))


def number(value: float) -> str:
    """A number formatted for people; a dash for NaN, such as the deviation of a single row."""
    return numbers.number(value) if np.isfinite(value) else "–"


def check_target(
    target: str | list[str] | None, table: pd.DataFrame, model: str, data: str
) -> None:
    """Refuse data that lacks a model's target.

    Args:
        target: the model's target.
        table: the data.
        model, data: the names of both in the error.

    Raises:
        PipelineError: the data lacks a target.
    """
    if not target or not {*tasks.names(target)} <= {*table}:
        raise PipelineError(
            f"{model} predicts {target!r}, which {data} lacks",
            "name the data and the model of one run",
        )


def names_of_rows(
    table: pd.DataFrame, used: Sequence[str], identifier: str | None
) -> tuple[str, list[str]]:
    """The name of each row, and the column that it comes from, or ``row`` for a number.

    Args:
        table: the rows.
        used: features and target, which name rows only if ``identifier`` says so.
        identifier: the column; None takes the first text column whose values are unique.

    Raises:
        PipelineError: the table lacks the column.
    """
    if identifier and identifier not in table:
        raise PipelineError(
            f"report.identifier names {identifier!r}, which the table lacks"
            f"{did_you_mean(identifier, table.columns)}",
            f"the columns are: {', '.join(table.columns)}",
        )
    words = table.drop(columns=list(used)).select_dtypes("str")
    column = identifier or next((name for name in words if words[name].is_unique), None)
    if column is None:
        return "row", [str(number) for number in range(1, len(table) + 1)]
    return column, table[column].astype(str).tolist()


def describe(
    table: pd.DataFrame, features: Sequence[str], targets: Sequence[str]
) -> list[dict[str, Any]]:
    """The role, the kind and a summary of each column."""
    rows = []
    for name in table:
        column = table[name]
        cells = column.dropna()
        role = "target" if name in targets else "feature" if name in features else "not used"
        numeric = pd.api.types.is_numeric_dtype(column) and column.dtype != bool
        summary = ""
        if numeric and len(cells):
            summary = " / ".join(number(value) for value in cells.quantile([0, 0.5, 1]))
        elif len(cells):
            counts = cells.value_counts()
            summary = f"{counts.index[0]} ({counts.iloc[0] / len(cells):.0%})"
        kind = "number" if numeric else "truth" if column.dtype == bool else "words"
        rows.append(
            {"name": name, "role": role, "kind": kind, "missing": int(column.isna().sum()),
             "distinct": int(cells.nunique()), "holds": summary}
        )  # fmt: skip
    return rows


def quality(
    train: pd.DataFrame, test: pd.DataFrame, features: Sequence[str], cleaning: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """The quality of the data, as pairs of a title and a value."""
    table = pd.concat([train, test])
    entries = []
    if "rows_before" in cleaning:
        entries.append(("rows downloaded", f"{cleaning['rows_before']:,}"))
        dropped = ", ".join(f"{n:,} {why}" for why, n in cleaning.get("dropped", {}).items())
        entries.append(("rows dropped in cleaning", dropped or "none"))
    gaps, cells = int(table.isna().sum().sum()), max(table.size, 1)
    constant = [name for name in features if table[name].nunique(dropna=False) < 2]
    train_hashes = pd.util.hash_pandas_object(train[list(features)], index=False)
    shared = int(
        pd.util.hash_pandas_object(test[list(features)], index=False).isin(train_hashes).sum()
    )
    return [
        *entries,
        ("clean rows", f"{len(table):,}"),
        ("cells without a value", f"{gaps:,} of {cells:,} ({gaps / cells:.1%})"),
        ("constant features", ", ".join(constant) or "none"),
        ("test rows with the same features as a training row", f"{shared:,} of {len(test):,}"),
    ]


def target_distribution(train: Any, test: Any, classes: bool) -> list[dict[str, Any]]:
    """The distribution of the target in both parts: shares of classes, or summary statistics."""
    if isinstance(train, pd.DataFrame):
        by_target = {name: target_distribution(train[name], test[name], False) for name in train}
        return [
            {**row, "name": f"{name}: {row['name']}"}
            for name in by_target
            for row in by_target[name]
        ]
    if not classes:
        statistics = {"training": train.describe(), "test": test.describe()}
        titles = {"mean": "mean", "std": "standard deviation", "min": "smallest", "max": "largest"}
        return [
            {"name": title} | {part: number(values[key]) for part, values in statistics.items()}
            for key, title in titles.items()
        ]
    counts = {"training": train.value_counts(), "test": test.value_counts()}
    rows = []
    for label in counts["training"].add(counts["test"], fill_value=0).nlargest(CLASSES).index:
        row = {"name": str(label)}
        for part, part_counts in counts.items():
            count = int(part_counts.get(label, 0))
            row[part] = f"{count:,} ({count / part_counts.sum():.1%})"
        rows.append(row)
    return rows


def thresholds(truth: np.ndarray, scores: np.ndarray, probable: bool) -> list[dict[str, Any]]:
    """The metrics of a binary classifier at several thresholds.

    Args:
        truth: whether each row is of the positive class.
        scores: each row's score for this class.
        probable: whether the scores are probabilities, between 0 and 1.
    """
    steps = np.arange(1, 10) / 10 if probable else np.quantile(scores, np.arange(1, 10) / 10)
    rows = []
    for threshold in steps:
        flagged = scores >= threshold
        true_positives, count, positives = (
            int((flagged & truth).sum()),
            int(flagged.sum()),
            int(truth.sum()),
        )
        row: dict[str, float | None] = {
            "threshold": float(threshold),
            "said": count,
            "right": true_positives,
        }
        row |= {"wrong": count - true_positives, "missed": positives - true_positives}
        row["precision"] = true_positives / count if count else None
        row["recall"] = true_positives / positives if positives else None
        row["f1"] = 2 * true_positives / max(count + positives, 1)
        rows.append(row)
    return rows


def accuracy_by_confidence(
    right: np.ndarray, scores: np.ndarray, probable: bool
) -> list[dict[str, Any]]:
    """With more than two classes: the accuracy of the predictions above each confidence."""
    confidence = scores.max(axis=1)
    rows = []
    for threshold in (
        CONFIDENCES if probable else np.quantile(confidence, [0, 0.1, 0.25, 0.5, 0.75, 0.9])
    ):
        accepted = confidence >= threshold
        accuracy = float(right[accepted].mean()) if accepted.any() else None
        rows.append({"least": float(threshold), "taken": int(accepted.sum()),
                     "share": float(accepted.mean()), "accuracy": accuracy})  # fmt: skip
    return rows


def tolerances(errors: np.ndarray) -> list[dict[str, float]]:
    """For a regressor: the largest absolute error of each share of the predictions."""
    return [{"share": share, "error": float(np.quantile(np.abs(errors), share))}
            for share in SHARES]  # fmt: skip


def mistakes(
    names: Sequence[str], measurements: Mapping[str, Any], count: int
) -> list[dict[str, Any]]:
    """The worst predictions of the test rows, by name, from :func:`measure_model`."""
    values = measurements["truth"], measurements["predicted"]
    if measurements["classes"] is None and values[0].ndim > 1:
        return several_mistakes(names, *values, count)
    if measurements["classes"] is None:
        return number_mistakes(names, *values, count)
    return class_mistakes(names, *values, measurements["scores"], measurements["classes"], count)


def class_mistakes(
    names: Sequence[str],
    truth: np.ndarray,
    predicted: np.ndarray,
    scores: np.ndarray | None,
    classes: Sequence[Any],
    count: int,
) -> list[dict[str, Any]]:
    """The misclassified rows, those with the lowest score of the true class first."""
    index_of = {label: number for number, label in enumerate(classes)}
    score_of_true = np.full(len(truth), -np.inf)
    for row, label in enumerate(truth):
        if scores is not None and label in index_of:
            score_of_true[row] = scores[row, index_of[label]]
    wrong = np.flatnonzero(truth != predicted)
    hardest = wrong[np.argsort(score_of_true[wrong], kind="stable")][:count]
    return [{"name": names[row], "true": str(truth[row]), "predicted": str(predicted[row]),
             "measure": float(score_of_true[row]) if np.isfinite(score_of_true[row]) else None}
            for row in hardest]  # fmt: skip


def number_mistakes(
    names: Sequence[str], truth: np.ndarray, predicted: np.ndarray, count: int
) -> list[dict[str, Any]]:
    """The rows with the largest absolute errors."""
    errors = predicted - truth
    hardest = np.argsort(-np.abs(errors), kind="stable")[:count]
    return [{"name": names[row], "true": number(float(truth[row])),
             "predicted": number(float(predicted[row])), "measure": float(errors[row])}
            for row in hardest]  # fmt: skip


def several_mistakes(
    names: Sequence[str], truth: np.ndarray, predicted: np.ndarray, count: int
) -> list[dict[str, Any]]:
    """The rows with the largest error in any target, in the target's standard deviations."""
    spread = np.maximum(truth.std(axis=0), np.finfo(float).tiny)
    errors = np.abs((predicted - truth) / spread).max(axis=1)
    hardest = np.argsort(-errors, kind="stable")[:count]
    columns = {"true": truth, "predicted": predicted}
    return [{"name": names[row], "measure": float(errors[row]),
             **{key: " / ".join(map(number, rows[row]))
                for key, rows in columns.items()}}
            for row in hardest]  # fmt: skip


def curves(
    truth: np.ndarray, scores: np.ndarray, classes: Sequence[Any], positive: int = 1
) -> dict[str, list[dict[str, Any]]]:
    """Points of the ROC and precision-recall curves; of many classes, the largest."""
    indices = [positive] if len(classes) == 2 else range(len(classes))
    largest = sorted(indices, key=lambda index: -(truth == classes[index]).sum())[:CURVES]
    result: dict[str, list[dict[str, Any]]] = {"roc": [], "precision_recall": []}
    for index in sorted(largest):
        is_class = truth == classes[index]
        if is_class.all() or not is_class.any():
            continue
        fpr, tpr, _ = score.roc_curve(is_class, scores[:, index])
        precision, recall, _ = score.precision_recall_curve(is_class, scores[:, index])
        average = score.average_precision_score(is_class, scores[:, index])
        label = str(classes[index])
        result["roc"].append(
            {
                "label": label,
                "area": float(score.auc(fpr, tpr)),
                "points": thinned(fpr, tpr),
            }
        )
        result["precision_recall"].append(
            {"label": label, "area": float(average), "points": thinned(recall, precision)}
        )
    return result


def for_comparison(contents: Mapping[str, Any]) -> dict[str, Any]:
    """The intervals, curves and error quantiles that a comparison of runs draws.

    Args:
        contents: from :func:`collect`.
    """
    return {
        "intervals": contents["intervals"],
        "curves": {name: contents.get(name, []) for name in ("roc", "precision_recall")},
        "errors": {result["target"]: result["tolerances"] for result in contents.get("each", [])},
    }


def changes(metrics: Mapping[str, float], before: Mapping[str, float]) -> list[dict[str, Any]]:
    """The change of each metric since the previous report."""
    return [{"name": name, "before": before[name], "now": value, "change": value - before[name]}
            for name, value in metrics.items() if name in before]  # fmt: skip


def measure_model(
    model: Any,
    features: Mapping[str, pd.DataFrame],
    target: Mapping[str, Any],
    resamples: int,
    random_state: int,
    positive: Any = None,
) -> dict[str, Any]:
    """The measurements of a model: :func:`measure_predictions`, importances and insights.

    Args:
        model: the fitted pipeline.
        features, target: of the ``training`` and the ``test`` rows.
        resamples, random_state: the number of resamples for the intervals, and their seed.
        positive: the positive class of a binary classifier.
    """
    test = features["test"]
    predictions = evaluation.predict(model, test, target["test"], positive)
    result = measure_predictions(predictions, resamples, random_state)
    importances = evaluation.importances(model, test, target["test"])
    largest = importances.head(BARS)
    result["importances"] = [(str(name), float(value)) for name, value in largest.items()]
    result["leading"] = insights.rank_features(importances, test)
    result["insights"] = insights.collect(
        model, features["training"], target["training"], test, predictions, result["leading"],
        positive,
    )  # fmt: skip
    if predictions.classes is None and not predictions.targets:
        result["slices"] = diagnostics.slices(predictions, test, result["leading"])
    return result


def measure_predictions(
    predictions: evaluation.Predictions, resamples: int, random_state: int
) -> dict[str, Any]:
    """The measurements of predictions: metrics with intervals, curves and thresholds.

    Args:
        predictions: a model's predictions beside the true values.
        resamples, random_state: the number of resamples for the intervals, and their seed.
    """
    truth, predicted = predictions.truth, predictions.predicted
    classes, scores = predictions.classes, predictions.scores
    result: dict[str, Any] = {"metrics": evaluation.metrics(predictions), "classes": classes}
    if classes is not None:
        positive_index = predictions.positive_index
        measure = intervals.class_measure(truth, predicted, scores, classes, positive_index)
        result["positive"] = predictions.positive_class if len(classes) == 2 else None
        result |= {"scores": scores, "probable": predictions.has_probabilities}
        result["confusion_classes"], counts = evaluation.confusion(predictions)
        result["confusion"] = counts.tolist()
        result["per_class"] = diagnostics.per_class(predictions)
        result["confused"] = diagnostics.confused(predictions)
        result |= {"calibration": diagnostics.calibration(predictions), "point": {}, "roc": []}
        if scores is not None:
            at_half = scores[:, positive_index] >= 0.5
            is_positive = predicted == predictions.positive_class
            result["takes_half"] = bool((at_half == is_positive).all())
            result |= curves(truth, scores, classes, positive_index)
            if len(classes) == 2:
                result["point"] = diagnostics.operating_point(predictions)
            result["thresholds"] = (
                thresholds(
                    truth == result["positive"], scores[:, positive_index], result["probable"]
                )
                if len(classes) == 2
                else accuracy_by_confidence(truth == predicted, scores, result["probable"])
            )
    else:
        measure = intervals.number_measure(truth, predicted)
        if predictions.targets:
            measure = intervals.several_measure(truth, predicted, predictions.targets)
        result["each"] = [
            {
                "target": name,
                "tolerances": tolerances(part.predicted - part.truth),
                "errors": diagnostics.errors(part),
                "pairs": thinned(part.truth, part.predicted),
                "residuals": thinned(part.predicted, part.truth - part.predicted),
            }
            for name, part in predictions.by_target.items()
        ]
    result["intervals"] = intervals.intervals(
        measure, len(truth), result["metrics"], resamples, random_state
    )
    return result | {"truth": truth, "predicted": predicted}


def collect(
    model: Any,
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    target: str | list[str],
    train_name: str,
    test_name: str,
    identifier: str | None,
    mistakes_shown: int,
    resamples: int,
    random_state: int,
    cleaning: Mapping[str, Any],
    positive: Any = None,
    kinds: Mapping[str, str] | None = None,
    costs: Mapping[str, float] | None = None,
    earlier: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """The numbers, tables and curves of a report.

    Args:
        model: the fitted pipeline.
        train, test: the training and the test rows.
        target: the column that the model predicts, or several.
        train_name, test_name: the names of both parts in an error.
        identifier: the column that names a row; None takes the first suitable column.
        mistakes_shown: the largest number of mistakes to list.
        resamples, random_state: the number of resamples for the intervals, and their seed.
        cleaning: the metadata of the clean table, if it is known.
        positive: the positive class of a binary classifier.
        kinds: the kind of each feature (:func:`pipeline.science.data.kinds.features`).
        costs: the costs of a ``false_positive`` and a ``false_negative``, for two classes.
        earlier: the training rows of the previous report, if they differ.

    Raises:
        PipelineError: a part lacks a column or the identifier, or the costs are invalid.
    """
    train, test = expand(train, kinds or {}), expand(test, kinds or {})
    features = {
        "training": model_features(model, train, train_name),
        "test": model_features(model, test, test_name),
    }
    labels = {"training": train[target], "test": test[target]}
    targets = tasks.names(target)
    used = features["test"].columns
    named_by, names = names_of_rows(test, [*used, *targets], identifier)
    measurements = measure_model(model, features, labels, resamples, random_state, positive)
    if costs:
        measurements["thresholds"] = diagnostics.costs(measurements, costs)
    columns = [*targets, *(name for name in measurements["leading"] if name in train)]
    tables = {"training": train, "test": test}
    if earlier is not None:
        tables["training, previous run"] = earlier
    return measurements | {
        "costs": costs,
        "histograms": diagnostics.histograms(tables, columns[: diagnostics.COLUMNS]),
        "drift": [] if earlier is None else drift.compare(earlier, train),
        "target": ", ".join(targets),
        "rows": {"training": len(train), "test": len(test)},
        "resamples": resamples,
        "random_state": random_state,
        "named_by": named_by,
        "mistakes": mistakes(names, measurements, mistakes_shown),
        "wrong": int((measurements["truth"] != measurements["predicted"]).sum()),
        "quality": quality(train, test, used, cleaning),
        "columns": describe(pd.concat([train, test]), used, targets),
        "parts": target_distribution(
            labels["training"], labels["test"], bool(measurements["classes"])
        ),
    }
