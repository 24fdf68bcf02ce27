"""Renders a comparison as one HTML page with tables of runs, metrics and differences."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.metrics import lower_is_better
from pipeline.core.numbers import difference, number
from pipeline.history.compare import Comparison, commit, windows
from pipeline.reporting.charts import Axis, axis
from pipeline.reporting.page import environment

TEMPLATES = Path(__file__).parent
LONGEST = 24  # characters of a value before it is folded


def render(comparison: Comparison) -> str:
    """The page as HTML."""
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
            name: artifacts
            for name, artifacts in comparison.artifacts.items()
            if len(_digests(artifacts)) > 1
        },
        same=[
            f"{name}:{artifacts[0]['version']}"
            for name, artifacts in comparison.artifacts.items()
            if artifacts[0] and len(_digests(artifacts)) == 1
        ],
    )


def _digests(artifacts: Sequence[dict[str, Any] | None]) -> set[str | None]:
    return {artifact and artifact["digest"] for artifact in artifacts}


def metric(comparison: Comparison, name: str) -> dict[str, Any]:
    """A metric's row: each run's value and its difference from the first run's value."""
    values, sign = comparison.metrics[name], -1 if lower_is_better(name) else 1
    cells = []
    for value, change in zip(values, comparison.differences(name), strict=True):
        kind = "" if not change else "better" if sign * change > 0 else "worse"
        text = "" if change is None else difference(change)
        cells.append({"text": number(value), "value": value, "change": text, "kind": kind})
    measured = [value for value in values if value is not None]
    return {"name": name, "cells": cells, "axis": scale(measured)}


def scale(values: Sequence[float]) -> Axis | None:
    """The axis of a metric's plot; None if all values are equal."""
    return axis(values) if len(set(values)) > 1 else None
