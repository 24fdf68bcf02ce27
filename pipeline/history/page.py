"""Renders a comparison as one HTML page with tables of runs, metrics and differences."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.metrics import lower_is_better
from pipeline.core.numbers import difference, number
from pipeline.history.compare import SECONDARY, Comparison, classes, commit, digests, windows
from pipeline.reporting.charts import SHARES, Axis, axis
from pipeline.reporting.page import environment

TEMPLATES = Path(__file__).parent
LONGEST = 28  # characters of a value before it is folded
CURVES, FIGURES = 7, 4  # maxima: runs in a figure; classes or targets, each with its figures
CURVE_AXES = {  # by kind: title, x, y and the area in the legend
    "roc": ("ROC curve", "false positive rate", "true positive rate", "area"),
    "precision_recall": ("Precision-recall curve", "recall", "precision", "average precision"),
}

Measurements = Mapping[str, Any]


def render(comparison: Comparison, measured: Sequence[Measurements | None]) -> str:
    """The page as HTML.

    Args:
        comparison: the runs.
        measured: each run's :func:`pipeline.history.stored.step_files.measurements`.
    """
    runs = comparison.runs
    settings = {
        name: [*zip(windows(classes(texts), LONGEST), texts, strict=True)]
        for name, texts in comparison.parameters.items()
    }
    drawn = {
        f"run {number}{'' if is_comparable else '†'}": run
        for number, (run, is_comparable) in enumerate(
            zip(measured[:CURVES], comparison.comparable, strict=False), 1
        )
        if run
    }
    template = environment(TEMPLATES).get_template("compare.html")
    return template.render(
        runs=runs,
        commits=[commit(run) for run in runs],
        metric_name=comparison.metric,
        note=comparison.note,
        comparable=comparison.comparable,
        metrics=[metric(comparison, name, measured) for name in comparison.metrics],
        has_intervals=any(measured),
        figures_of_runs=[*curves(drawn), *errors(drawn)],
        notes=[*notes(measured, drawn)],
        parameters={k: texts for k, texts in settings.items() if not k.startswith(SECONDARY)},
        secondary={k: texts for k, texts in settings.items() if k.startswith(SECONDARY)},
        artifacts={
            name: artifacts
            for name, artifacts in comparison.artifacts.items()
            if len(digests(artifacts)) > 1
        },
        same=[
            f"{name}:{artifacts[0]['version']}"
            for name, artifacts in comparison.artifacts.items()
            if artifacts[0] and len(digests(artifacts)) == 1
        ],
    )


def curves(drawn: Mapping[str, Measurements]) -> Iterator[dict[str, Any]]:
    """The figures of the ROC and precision-recall curves: for each class, a line for each run.

    Args:
        drawn: the measurements by the runs' labels.
    """
    for label in _labels(drawn)[:FIGURES]:
        for kind, (title, x, y, area) in CURVE_AXES.items():
            lines = [
                {**line, "label": f"{run} ({area} {line['area']:.3f})"}
                for run, measurements in drawn.items()
                for line in measurements["curves"][kind]
                if line["label"] == label
            ]
            even = [(0, 0), (1, 1)] if kind == "roc" else None
            figure = {"title": f"{title} of {label}", "x": x, "y": y, "even": even}
            yield {**figure, "lines": lines, "scale": SHARES}


def errors(drawn: Mapping[str, Measurements]) -> Iterator[dict[str, Any]]:
    """The figures of the quantiles of a regressor's error: for each target, a line for each run."""
    for target in _targets(drawn)[:FIGURES]:
        lines = [
            # the largest error of all would compress the others
            {"label": run, "points": [(row["error"], row["share"]) for row in rows[:-1]]}
            for run, measurements in drawn.items()
            if (rows := measurements["errors"].get(target))
        ]
        title = "Quantiles of the absolute error" + (f" of {target}" if target else "")
        figure = {"title": title, "x": "absolute error at most", "y": "share of the predictions"}
        yield {**figure, "lines": lines, "even": None, "scale": None}


def notes(
    measured: Sequence[Measurements | None], drawn: Mapping[str, Measurements]
) -> Iterator[str]:
    """Sentences about the runs, classes and targets that have no curves on the page."""
    absent = [str(number) for number, run in enumerate(measured, 1) if run is None]
    if absent:
        runs = f"Run {absent[0]} has" if len(absent) == 1 else f"Runs {', '.join(absent)} have"
        yield f"{runs} no report with curves and intervals; the step 5-Report makes it."
    if len(measured) > CURVES:
        yield f"The curves are those of the first {CURVES} of {len(measured)} runs."
    for names, what in ((_labels(drawn), "classes"), (_targets(drawn), "targets")):
        if len(names) > FIGURES:
            yield f"The curves are those of {FIGURES} {what}; the runs' reports have more."


def _labels(drawn: Mapping[str, Measurements]) -> list[str]:
    lines = [line for run in drawn.values() for line in run["curves"]["roc"]]
    return [*dict.fromkeys(line["label"] for line in lines)]


def _targets(drawn: Mapping[str, Measurements]) -> list[str]:
    return [*dict.fromkeys(target for run in drawn.values() for target in run["errors"])]


def metric(
    comparison: Comparison, name: str, measured: Sequence[Measurements | None]
) -> dict[str, Any]:
    """A metric's row: each run's value, interval, and difference from the first run's value."""
    values, sign = comparison.metrics[name], -1 if lower_is_better(name) else 1
    cells = []
    rows = zip(values, comparison.differences(name), measured, strict=True)
    for value, change, run in rows:
        kind = "" if not change else "better" if sign * change > 0 else "worse"
        text = "" if change is None else difference(change)
        ends = run["intervals"].get(name, ()) if run else ()
        cells.append(
            {"text": number(value), "value": value, "change": text, "kind": kind, "ends": ends}
        )
    return {"name": name, "cells": cells, "axis": scale(cells)}


def scale(cells: Sequence[Mapping[str, Any]]) -> Axis | None:
    """The axis of a metric's plot; None if all values are equal and have no interval."""
    values = [cell["value"] for cell in cells if cell["value"] is not None]
    values += [end for cell in cells for end in cell["ends"]]
    return axis(values) if len(set(values)) > 1 else None
