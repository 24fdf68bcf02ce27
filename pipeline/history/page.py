"""A comparison as one HTML page: runs, metrics, and what differs, each as a table that scrolls."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.metrics import lower_is_better
from pipeline.core.numbers import difference, number
from pipeline.history.compare import Comparison, commit, windows
from pipeline.reporting.charts import Axis, axis
from pipeline.reporting.page import environment

TEMPLATES = Path(__file__).parent
LONGEST = 24  # characters of a value that are shown at once


def render(comparison: Comparison) -> str:
    """The page's text."""
    runs = comparison.runs
    template = environment(TEMPLATES).get_template("compare.html")
    return template.render(
        runs=runs,
        commits=[commit(run) for run in runs],
        metric_name=comparison.metric,
        note=comparison.note,
        comparable=comparison.comparable,
        metrics=[metric(comparison, name) for name in comparison.metrics],
        parameters={
            name: [*zip(windows(texts, LONGEST), texts, strict=True)]
            for name, texts in comparison.parameters.items()
        },
        artifacts={
            name: found
            for name, found in comparison.artifacts.items()
            if len({one and one["digest"] for one in found}) > 1
        },
        same=[
            f"{name}:{found[0]['version']}"
            for name, found in comparison.artifacts.items()
            if found[0] and len({one and one["digest"] for one in found}) == 1
        ],
    )


def metric(comparison: Comparison, name: str) -> dict[str, Any]:
    """A metric's row: each run's value, and by how much it is above or below the first run's."""
    values, sign = comparison.metrics[name], -1 if lower_is_better(name) else 1
    cells = []
    for value, change in zip(values, comparison.differences(name), strict=True):
        kind = "" if not change else "better" if sign * change > 0 else "worse"
        text = "" if change is None else difference(change)
        cells.append({"text": number(value), "value": value, "change": text, "kind": kind})
    known = [value for value in values if value is not None]
    return {"name": name, "cells": cells, "axis": scale(known)}


def scale(values: Sequence[float]) -> Axis | None:
    """The axis on which a metric's values are drawn beside each other; None for equal ones."""
    return axis(values) if len(set(values)) > 1 else None
