"""The report of a model as one self-contained HTML file."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.core.metrics import lower_is_better
from pipeline.reporting import graph
from pipeline.reporting.charts import SHARES, Axis, axis
from pipeline.reporting.page import environment, metric
from pipeline.science.inspection import report_data

MAX_ROWS, MAX_COLUMNS = 25, 200  # of tables of classes, and of columns
OUTPUT_ROLES = {  # by step, the roles of the artifacts that it writes
    "1-Download_data": ["raw"],
    "2-ETL": ["clean"],
    "3-Split_dataset": ["train", "test"],
    "4-Training_model": ["model"],
}
REPORT = "5-Report"
INPUT_ROLES = {  # by step, the roles of the artifacts that it reads
    "1-Download_data": [],
    "2-ETL": ["raw"],
    "3-Split_dataset": ["clean"],
    "4-Training_model": ["train", "test"],
    REPORT: ["model", "train", "test"],
}


def render(
    numbers: Mapping[str, Any],
    artifacts: Mapping[str, Any],
    *,
    project: str,
    before: Any,
    commands: Mapping[str, Any],
    name: str = "report.html",
    drift_note: str = "",
) -> str:
    """Render the report as HTML.

    Args:
        numbers: from :func:`pipeline.science.inspection.report_data.collect`.
        artifacts: the artifacts by role: ``model``, ``train``, ``test``, and ``raw`` and ``clean``
            if known.
        project: the tracker's project.
        before: the artifact of the report to compare with, or None.
        commands: the commands to reproduce the model (``whole``) and the report (``alone``), and
            whether the working tree had changes (``dirty``).
        name: the name of the report's own artifact.
        drift_note: a sentence on what the training data is compared with for drift.
    """
    model, test = artifacts["model"], artifacts["test"]
    earlier, metadata = before.metadata if before else {}, model.metadata
    insights = numbers["insights"]
    dummy = insights.get("dummy", {})
    return environment().get_template("report.html").render(
        {**numbers, "importances": bars(numbers["importances"])},
        dataset=dataset(artifacts, project),
        about=about(numbers, artifacts),
        model=model,
        test=test,
        split=test.metadata,
        notes=notes(artifacts),
        metric_columns=metric_columns(metadata, insights),
        dummy=dummy,
        axes=interval_axes(numbers, dummy),
        permuted=[bar_with_interval(feature) for feature in insights["permuted"]],
        permuted_score=insights["permuted_score"],
        dependence=insights["dependence"],
        learning=learning(metadata.get("learning_curve")),
        before=before,
        same_test=earlier.get("test") == test.digest,
        changes=report_data.changes(numbers["metrics"], earlier.get("metrics", {})),
        lineage=[artifacts[role] for role in chain(*OUTPUT_ROLES.values()) if artifacts.get(role)],
        picture=picture(artifacts, name),
        commands=commands,
        drift_note=drift_note,
        measured_on="test data",
        row_label="test rows",
        source=test.reference,
        max_rows=MAX_ROWS,
        max_columns=MAX_COLUMNS,
    )  # fmt: skip


def dataset(artifacts: Mapping[str, Any], project: str) -> str:
    """The data set's name: the raw file's, or the project's."""
    raw = artifacts.get("raw")
    return Path(raw.name).stem if raw and Path(raw.name).stem else project


def about(numbers: Mapping[str, Any], artifacts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The header of a report, as pairs of name and value."""
    metadata, raw = artifacts["model"].metadata, artifacts.get("raw")
    classes = numbers["classes"]
    task = "regression" if classes is None else f"classification, {len(classes):,} classes"
    params = metadata.get("params") or {}
    hyperparameters = ", ".join(f"{name}={value}" for name, value in params.items())
    defaults = "the estimator's defaults" if "params" in metadata else ""
    commit = metadata.get("commit", "")
    pairs = [
        ("Data set", raw.reference if raw else artifacts["train"].reference),
        ("Target", numbers["target"]),
        ("Task", task),
        ("Estimator", str(metadata.get("estimator", ""))),
        ("Hyperparameters", hyperparameters or defaults),
        ("Trained", metadata.get("made", "")),
        ("Run", metadata.get("run", "")),
        ("Commit", commit.replace("*", ", with changes that were not committed")),
    ]
    return [(name, text) for name, text in pairs if text]


def metric_columns(
    metadata: Mapping[str, Any], insights: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The further columns of the metrics table, beside the test data, as far as known."""
    columns = {
        "validation": _with_prefix(metadata, "val_"),
        "cross-validation": _fold_means(metadata),
        "training": _formatted(insights.get("training")),
        "dummy baseline": _formatted(insights.get("dummy")),
        "linear baseline": _formatted(insights.get("linear")),
    }
    return [{"title": title, "cells": cells} for title, cells in columns.items() if cells]


def _formatted(metrics: Mapping[str, float] | None) -> dict[str, str]:
    return {name: metric(value) for name, value in (metrics or {}).items()}


def _with_prefix(metadata: Mapping[str, Any], prefix: str) -> dict[str, str]:
    values = {
        name.removeprefix(prefix): v for name, v in metadata.items() if name.startswith(prefix)
    }
    return _formatted(values)


def _fold_means(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The mean and the standard deviation of each metric over the folds."""
    means = {name[3:-5]: metadata[name] for name in metadata if re.fullmatch("cv_.*_mean", name)}
    return {
        name: f"{metric(v)} ± {metric(metadata[f'cv_{name}_std'])}" for name, v in means.items()
    }


def interval_axes(numbers: Mapping[str, Any], dummy: Mapping[str, float]) -> dict[str, Axis]:
    """The axis of each metric that has an interval."""
    return {
        name: interval_axis(name, ends, dummy.get(name))
        for name, ends in numbers["intervals"].items()
    }


def interval_axis(name: str, ends: Sequence[float], baseline: float | None) -> Axis:
    """The axis of a metric's interval: from 0 to 1 for scores, else from 0 or below."""
    values = [*ends, *([baseline] if baseline is not None and math.isfinite(baseline) else [])]
    if not lower_is_better(name) and min(values) >= 0:
        return SHARES
    return axis(values, 0.0, *([] if lower_is_better(name) else [1.0]))


def bars(pairs: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Bars without an interval."""
    return [{"name": name, "value": value, "low": value, "high": value} for name, value in pairs]


def bar_with_interval(feature: Mapping[str, Any]) -> dict[str, Any]:
    """A bar of a mean, with an interval of two standard deviations to each side."""
    name, mean, std = feature["name"], feature["mean"], feature["std"]
    return {"name": name, "value": mean, "low": mean - 2 * std, "high": mean + 2 * std}


def learning(curve: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The lines of a learning curve; None if there is no curve."""
    if not curve or not curve["points"]:
        return None
    lines = [
        {"label": part, "points": [(point["rows"], point[part]) for point in curve["points"]]}
        for part in ("training", "validation")
    ]
    return {"metric": curve["metric"], "lines": lines}


def picture(artifacts: Mapping[str, Any], report_name: str) -> str:
    """The steps and the artifact versions that passed between them, as SVG."""
    available = {role: artifact for role, artifact in artifacts.items() if artifact}
    steps = [
        graph.Step(
            step,
            [available[role].name for role in INPUT_ROLES[step] if role in available],
            {available[role].name: available[role].version for role in roles if role in available},
        )
        for step, roles in OUTPUT_ROLES.items()
        if available.keys() & roles
    ]
    inputs = [available[role].name for role in INPUT_ROLES[REPORT]]
    steps.append(graph.Step(REPORT, inputs, {report_name: ""}))
    return graph.as_svg(steps)


def notes(artifacts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps' decisions and warnings about the data; warnings come first."""
    all_notes = []
    for step, roles in OUTPUT_ROLES.items():
        outputs = [artifacts[role] for role in roles if artifacts.get(role)]
        step_notes = [
            note for artifact in outputs for note in (artifact.metadata or {}).get("notes", [])
        ]
        all_notes += [{"step": step, **note} for note in step_notes]
    unique = {(note["step"], note["text"]): note for note in all_notes}
    return sorted(unique.values(), key=lambda note: not note["warning"])


def render_new_data(numbers: Mapping[str, Any]) -> str:
    """Render the report of a model on new rows as HTML.

    Args:
        numbers: the values for the template ``new_data.html``; ``measured`` is the result of
            :func:`pipeline.science.inspection.report_data.measure_predictions` if the true values
            are known.
    """
    measurements = numbers["measured"] or {}
    trained = {"title": "test data, when trained", "cells": _formatted(numbers["trained"])}
    return environment().get_template("new_data.html").render(
        {**numbers, **measurements},
        axes=interval_axes(measurements, {}) if measurements else {},
        metric_columns=[trained],
        dummy={},
        measured_on="these rows",
        row_label="rows",
        max_rows=MAX_ROWS,
        costs=None,
    )  # fmt: skip
