"""What a report says of a model and its data: tables and curves, as plain values.

Pure functions; the report's template gives the values their form.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as score

from pipeline.core import numbers
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.science import diagnostics, evaluation, insights, intervals, tasks
from pipeline.science.data import drift
from pipeline.science.data.kinds import expand
from pipeline.science.diagnostics import thinned

CURVES, BARS, CLASSES = 8, 15, 25  # at most so many are shown
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
CERTAINTIES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def inputs(model: Any, table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The columns that the model was fitted on, numbers as floats.

    Raises:
        PipelineError: the table lacks one.
    """
    wanted = list(model.feature_names_in_)
    lacking = [column for column in wanted if column not in table]
    if lacking:
        raise PipelineError(
            f"{reference} lacks {lacking[0]!r}, which the model was fitted on"
            f"{did_you_mean(lacking[0], table.columns)}",
            "name the data and the model of one run",
        )
    features = table[wanted]
    return features.astype(dict.fromkeys(features.select_dtypes("number").columns, "float64"))


def number(value: float) -> str:
    """A number as people read it; a dash for NaN, such as the spread of a single row."""
    return numbers.number(value) if np.isfinite(value) else "–"


def check_target(target: str | list[str] | None, test: pd.DataFrame, model: str, data: str) -> None:
    """Refuse test data without what a model predicts.

    Args:
        target: what it predicts.
        test: the test data.
        model, data: what to call both.

    Raises:
        PipelineError: they are of different runs.
    """
    if not target or not {*tasks.names(target)} <= {*test}:
        raise PipelineError(
            f"{model} predicts {target!r}, which {data} lacks",
            "name the data and the model of one run",
        )


def names_of_rows(
    table: pd.DataFrame, used: Sequence[str], identifier: str | None
) -> tuple[str, list[str]]:
    """What to call each row, and what that is: a column's name, or ``row``.

    Args:
        table: the rows.
        used: features and target, which name nothing unless asked to.
        identifier: the column; None takes the first one of words that are all different.

    Raises:
        PipelineError: there is no such column.
    """
    if identifier and identifier not in table:
        raise PipelineError(
            f"report.identifier names {identifier!r}, which the table lacks"
            f"{did_you_mean(identifier, table.columns)}",
            f"the columns are: {', '.join(table.columns)}",
        )
    words = table.drop(columns=list(used)).select_dtypes("str")
    found = identifier or next((name for name in words if words[name].is_unique), None)
    if found is None:
        return "row", [str(number) for number in range(1, len(table) + 1)]
    return found, table[found].astype(str).tolist()


def describe(
    table: pd.DataFrame, features: Sequence[str], targets: Sequence[str]
) -> list[dict[str, Any]]:
    """Each column: what it is for, what it holds, and what is missing."""
    rows = []
    for name in table:
        column = table[name]
        cells = column.dropna()
        role = "target" if name in targets else "feature" if name in features else "not used"
        numeric = pd.api.types.is_numeric_dtype(column) and column.dtype != bool
        held = ""
        if numeric and len(cells):
            held = " / ".join(number(value) for value in cells.quantile([0, 0.5, 1]))
        elif len(cells):
            counts = cells.value_counts()
            held = f"{counts.index[0]} ({counts.iloc[0] / len(cells):.0%})"
        kind = "number" if numeric else "truth" if column.dtype == bool else "words"
        rows.append(
            {"name": name, "role": role, "kind": kind, "missing": int(column.isna().sum()),
             "distinct": int(cells.nunique()), "holds": held}
        )  # fmt: skip
    return rows


def quality(
    train: pd.DataFrame, test: pd.DataFrame, features: Sequence[str], cleaning: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """What there is to know before trusting the data, as pairs of question and answer."""
    table = pd.concat([train, test])
    found = []
    if "rows_before" in cleaning:
        found.append(("rows downloaded", f"{cleaning['rows_before']:,}"))
        dropped = ", ".join(f"{n:,} {why}" for why, n in cleaning.get("dropped", {}).items())
        found.append(("rows dropped in cleaning", dropped or "none"))
    gaps, cells = int(table.isna().sum().sum()), max(table.size, 1)
    constant = [name for name in features if table[name].nunique(dropna=False) < 2]
    known = pd.util.hash_pandas_object(train[list(features)], index=False)
    seen = int(pd.util.hash_pandas_object(test[list(features)], index=False).isin(known).sum())
    return [
        *found,
        ("clean rows", f"{len(table):,}"),
        ("cells without a value", f"{gaps:,} of {cells:,} ({gaps / cells:.1%})"),
        ("features that never change", ", ".join(constant) or "none"),
        ("test rows with the very features of a training row", f"{seen:,} of {len(test):,}"),
    ]


def parts(train: Any, test: Any, classes: bool) -> list[dict[str, Any]]:
    """How the target is spread in both parts: shares of classes, or the usual numbers."""
    if isinstance(train, pd.DataFrame):
        told = {name: parts(train[name], test[name], False) for name in train}
        return [{**row, "name": f"{name}: {row['name']}"} for name in told for row in told[name]]
    if not classes:
        both = {"training": train.describe(), "test": test.describe()}
        shown = {"mean": "mean", "std": "standard deviation", "min": "smallest", "max": "largest"}
        return [{"name": word, **{part: number(told[key]) for part, told in both.items()}}
                for key, word in shown.items()]  # fmt: skip
    counts = {"training": train.value_counts(), "test": test.value_counts()}
    rows = []
    for label in counts["training"].add(counts["test"], fill_value=0).nlargest(CLASSES).index:
        row = {"name": str(label)}
        for part, found in counts.items():
            count = int(found.get(label, 0))
            row[part] = f"{count:,} ({count / found.sum():.1%})"
        rows.append(row)
    return rows


def thresholds(truth: np.ndarray, scores: np.ndarray, probable: bool) -> list[dict[str, Any]]:
    """What each threshold of the second of two classes' score would give.

    Args:
        truth: whether each row is of that class.
        scores: how much the model takes it to be.
        probable: the scores are probabilities, which end at 0 and 1.
    """
    steps = np.arange(1, 10) / 10 if probable else np.quantile(scores, np.arange(1, 10) / 10)
    rows = []
    for limit in steps:
        said = scores >= limit
        hits, count, there = int((said & truth).sum()), int(said.sum()), int(truth.sum())
        row: dict[str, float | None] = {"threshold": float(limit), "said": count, "right": hits}
        row |= {"wrong": count - hits, "missed": there - hits}
        row["precision"] = hits / count if count else None
        row["recall"] = hits / there if there else None
        row["f1"] = 2 * hits / max(count + there, 1)
        rows.append(row)
    return rows


def certainties(right: np.ndarray, scores: np.ndarray, probable: bool) -> list[dict[str, Any]]:
    """With more than two classes: what is right when unsure predictions are not taken."""
    sure = scores.max(axis=1)
    rows = []
    for limit in CERTAINTIES if probable else np.quantile(sure, [0, 0.1, 0.25, 0.5, 0.75, 0.9]):
        taken = sure >= limit
        accuracy = float(right[taken].mean()) if taken.any() else None
        rows.append({"least": float(limit), "taken": int(taken.sum()),
                     "share": float(taken.mean()), "accuracy": accuracy})  # fmt: skip
    return rows


def tolerances(errors: np.ndarray) -> list[dict[str, float]]:
    """For numbers: how far off a share of the predictions is at most."""
    return [{"share": share, "error": float(np.quantile(np.abs(errors), share))}
            for share in SHARES]  # fmt: skip


def mistakes(names: Sequence[str], told: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The hardest of the test rows, by name, from what was :func:`measured`."""
    pair = told["truth"], told["predicted"]
    if told["classes"] is None and pair[0].ndim > 1:
        return several_mistakes(names, *pair, count)
    if told["classes"] is None:
        return number_mistakes(names, *pair, count)
    return class_mistakes(names, *pair, told["scores"], told["classes"], count)


def class_mistakes(
    names: Sequence[str],
    truth: np.ndarray,
    predicted: np.ndarray,
    scores: np.ndarray | None,
    classes: Sequence[Any],
    count: int,
) -> list[dict[str, Any]]:
    """The wrongly predicted rows, first those whose true class the model thought least likely."""
    place = {label: number for number, label in enumerate(classes)}
    chance = np.full(len(truth), -np.inf)
    for row, label in enumerate(truth):
        if scores is not None and label in place:
            chance[row] = scores[row, place[label]]
    wrong = np.flatnonzero(truth != predicted)
    hardest = wrong[np.argsort(chance[wrong], kind="stable")][:count]
    return [{"name": names[row], "true": str(truth[row]), "predicted": str(predicted[row]),
             "measure": float(chance[row]) if np.isfinite(chance[row]) else None}
            for row in hardest]  # fmt: skip


def number_mistakes(
    names: Sequence[str], truth: np.ndarray, predicted: np.ndarray, count: int
) -> list[dict[str, Any]]:
    """The rows whose predictions are furthest off."""
    errors = predicted - truth
    hardest = np.argsort(-np.abs(errors), kind="stable")[:count]
    return [{"name": names[row], "true": number(truth[row]),
             "predicted": number(predicted[row]), "measure": float(errors[row])}
            for row in hardest]  # fmt: skip


def several_mistakes(
    names: Sequence[str], truth: np.ndarray, predicted: np.ndarray, count: int
) -> list[dict[str, Any]]:
    """The rows with the largest error in any target, in its standard deviations."""
    spread = np.maximum(truth.std(axis=0), np.finfo(float).tiny)
    errors = np.abs((predicted - truth) / spread).max(axis=1)
    hardest = np.argsort(-errors, kind="stable")[:count]
    shown = {"true": truth, "predicted": predicted}
    return [{"name": names[row], "measure": float(errors[row]),
             **{key: " / ".join(map(number, rows[row]))
                for key, rows in shown.items()}}
            for row in hardest]  # fmt: skip


def curves(
    truth: np.ndarray, scores: np.ndarray, classes: Sequence[Any], positive: int = 1
) -> dict[str, list[dict[str, Any]]]:
    """Points of the ROC and precision-recall curves; the commonest classes where there are many."""
    places = [positive] if len(classes) == 2 else range(len(classes))
    common = sorted(places, key=lambda place: -(truth == classes[place]).sum())[:CURVES]
    found: dict[str, list[dict[str, Any]]] = {"roc": [], "precision_recall": []}
    for place in sorted(common):
        is_it = truth == classes[place]
        if is_it.all() or not is_it.any():
            continue
        wrong, right, _ = score.roc_curve(is_it, scores[:, place])
        precision, recall, _ = score.precision_recall_curve(is_it, scores[:, place])
        average = score.average_precision_score(is_it, scores[:, place])
        label = str(classes[place])
        found["roc"].append(
            {
                "label": label,
                "area": float(score.auc(wrong, right)),
                "points": thinned(wrong, right),
            }
        )
        found["precision_recall"].append(
            {"label": label, "area": float(average), "points": thinned(recall, precision)}
        )
    return found


def changes(metrics: Mapping[str, float], before: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each metric's way from the report before this one."""
    return [{"name": name, "before": before[name], "now": value, "change": value - before[name]}
            for name, value in metrics.items() if name in before]  # fmt: skip


def measured(
    model: Any,
    features: pd.DataFrame,
    target: pd.Series,
    resamples: int,
    random_state: int,
    positive: Any = None,
) -> dict[str, Any]:
    """A model on a table: what :func:`measure_predictions` says, and which features matter."""
    predictions = evaluation.predict(model, features, target, positive)
    found = measure_predictions(predictions, resamples, random_state)
    weights = evaluation.importances(model, features, target)
    top = weights.head(BARS)
    found["importances"] = [(str(name), float(value)) for name, value in top.items()]
    found["leading"] = insights.rank_features(weights, features)
    if predictions.classes is None and not predictions.targets:
        found["slices"] = diagnostics.slices(predictions, features, found["leading"])
    return found


def measure_predictions(
    predictions: evaluation.Predictions, resamples: int, random_state: int
) -> dict[str, Any]:
    """How good answers are: metrics with intervals, curves, thresholds.

    Args:
        predictions: what a model says of rows, beside the truth about them.
        resamples, random_state: draws of the rows for the intervals, and their seed.
    """
    truth, predicted = predictions.truth, predictions.predicted
    classes, scores = predictions.classes, predictions.scores
    found: dict[str, Any] = {"metrics": evaluation.metrics(predictions), "classes": classes}
    if classes is not None:
        positive_index = predictions.positive_index
        measure = intervals.class_measure(truth, predicted, scores, classes, positive_index)
        found["positive"] = predictions.positive_class if len(classes) == 2 else None
        found |= {"scores": scores, "probable": predictions.has_probabilities}
        found["confusion_classes"], counts = evaluation.confusion(predictions)
        found["confusion"] = counts.tolist()
        found["per_class"] = diagnostics.per_class(predictions)
        found["confused"] = diagnostics.confused(predictions)
        found |= {"calibration": diagnostics.calibration(predictions), "point": {}, "roc": []}
        if scores is not None:
            at_half = scores[:, positive_index] >= 0.5
            is_positive = predicted == predictions.positive_class
            found["takes_half"] = bool((at_half == is_positive).all())
            found |= curves(truth, scores, classes, positive_index)
            if len(classes) == 2:
                found["point"] = diagnostics.operating_point(predictions)
            found["thresholds"] = (
                thresholds(truth == found["positive"], scores[:, positive_index], found["probable"])
                if len(classes) == 2
                else certainties(truth == predicted, scores, found["probable"])
            )
    else:
        measure = intervals.number_measure(truth, predicted)
        if predictions.targets:
            measure = intervals.several_measure(truth, predicted, predictions.targets)
        found["each"] = [
            {
                "target": name,
                "tolerances": tolerances(one.predicted - one.truth),
                "errors": diagnostics.errors(one),
                "pairs": thinned(one.truth, one.predicted),
                "residuals": thinned(one.predicted, one.truth - one.predicted),
            }
            for name, one in predictions.by_target.items()
        ]
    found["intervals"] = intervals.intervals(
        measure, len(truth), found["metrics"], resamples, random_state
    )
    return found | {"truth": truth, "predicted": predicted}


def collect(
    model: Any,
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    target: str | list[str],
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
    """All that a report says in numbers.

    Args:
        model: the fitted pipeline.
        train, test: what it was fitted on, and what it is measured on.
        target: the column that it predicts, or several.
        test_name: what to call the test data in an error.
        identifier: the column that names a row; None takes the first one that can.
        mistakes_shown: how many mistakes to list at most.
        resamples, random_state: draws of the test rows for the intervals, and their seed.
        cleaning: the metadata of the clean table, if it is known.
        positive: of two classes the one that the metrics are of.
        kinds: what features hold (:func:`pipeline.science.data.kinds.features`).
        costs: what a ``false_positive`` and a ``false_negative`` cost, of two classes.
        earlier: what the model of the previous report was fitted on, if that was other data.

    Raises:
        PipelineError: the test data lacks a column, there is no such identifier, or costs that
            can't be.
    """
    train, test = expand(train, kinds or {}), expand(test, kinds or {})
    features = inputs(model, test, test_name)
    targets = tasks.names(target)
    named_by, names = names_of_rows(test, [*features.columns, *targets], identifier)
    told = measured(model, features, test[target], resamples, random_state, positive)
    if costs:
        told["thresholds"] = diagnostics.costs(told, costs)
    shown = [*targets, *(name for name in told["leading"] if name in train)]
    tables = {"training": train, "test": test}
    if earlier is not None:
        tables["training, previous run"] = earlier
    return told | {
        "costs": costs,
        "histograms": diagnostics.histograms(tables, shown[: diagnostics.COLUMNS]),
        "drift": [] if earlier is None else drift.compare(earlier, train),
        "target": ", ".join(targets),
        "rows": {"training": len(train), "test": len(test)},
        "resamples": resamples,
        "random_state": random_state,
        "named_by": named_by,
        "mistakes": mistakes(names, told, mistakes_shown),
        "wrong": int((told["truth"] != told["predicted"]).sum()),
        "quality": quality(train, test, features.columns, cleaning),
        "columns": describe(pd.concat([train, test]), features.columns, targets),
        "parts": parts(train[target], test[target], bool(told["classes"])),
    }
