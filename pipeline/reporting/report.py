"""The report of a model as one HTML file that needs nothing else."""

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
from pipeline.science import report_data

MOST, LISTED = 25, 200  # classes and columns that are listed at most
STEPS = {  # and the roles of the artifacts that each of them makes
    "1-Download_data": ["raw"],
    "2-ETL": ["clean"],
    "3-Split_dataset": ["train", "test"],
    "4-Training_model": ["model"],
}
REPORT = "5-Report"
READ = {  # the roles of those that each step reads
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
    drift_said: str = "",
) -> str:
    """The report's text.

    Args:
        numbers: from :func:`pipeline.science.report_data.collect`.
        artifacts: those in ``model``, ``train`` and ``test``, and in ``raw`` and ``clean`` if they
            are known: each with ``reference``, ``digest`` and ``metadata``.
        project: the tracker's project.
        before: the artifact of the report to compare with, or None.
        commands: what to type to make the model (``whole``) and the report (``alone``) again, and
            whether the code was changed (``dirty``).
        name: of the report's own artifact.
        drift_said: what the training data was compared with, to see drift.
    """
    model, test = artifacts["model"], artifacts["test"]
    earlier, told = before.metadata if before else {}, model.metadata
    insights = told.get("insights") or {}
    dummy = insights.get("dummy") or {}
    return environment().get_template("report.html").render(
        {**numbers, "importances": bars(numbers["importances"])},
        dataset=dataset(artifacts, project),
        about=about(numbers, artifacts),
        model=model,
        test=test,
        split=test.metadata,
        notes=notes(artifacts),
        beside=beside(told, insights),
        dummy=dummy,
        axes=interval_axes(numbers, dummy),
        permuted=[spread(one) for one in insights.get("permuted", [])],
        permuted_score=insights.get("permuted_score", ""),
        dependence=insights.get("dependence", []),
        learning=learning(insights.get("learning_curve")),
        before=before,
        same_test=earlier.get("test") == test.digest,
        changes=report_data.changes(numbers["metrics"], earlier.get("metrics", {})),
        lineage=[artifacts[role] for role in chain(*STEPS.values()) if artifacts.get(role)],
        picture=picture(artifacts, name),
        commands=commands,
        drift_said=drift_said,
        measured_on="test data",
        these="test rows",
        source=test.reference,
        most=MOST,
        listed=LISTED,
    )  # fmt: skip


def dataset(artifacts: Mapping[str, Any], project: str) -> str:
    """The data set's name: the raw file's, or the project's."""
    raw = artifacts.get("raw")
    return Path(raw.name).stem if raw and Path(raw.name).stem else project


def about(numbers: Mapping[str, Any], artifacts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a report is about, in pairs."""
    told, raw = artifacts["model"].metadata, artifacts.get("raw")
    classes = numbers["classes"]
    task = "regression" if classes is None else f"classification, {len(classes):,} classes"
    params = told.get("params") or {}
    given = ", ".join(f"{name}={value}" for name, value in params.items())
    pairs = [
        ("Data set", raw.reference if raw else artifacts["train"].reference),
        ("Target", numbers["target"]),
        ("Task", task),
        ("Estimator", str(told.get("estimator", ""))),
        ("Hyperparameters", given or ("the estimator's defaults" if "params" in told else "")),
        ("Trained", told.get("made", "")),
        ("Run", told.get("run", "")),
        ("Commit", told.get("commit", "").replace("*", ", with changes that were not committed")),
    ]
    return [(name, text) for name, text in pairs if text]


def beside(told: Mapping[str, Any], insights: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The columns of metrics that stand beside those on the test data, as far as they are known."""
    columns = {
        "validation": _below(told, "val_"),
        "cross-validation": _folds(told),
        "training": _shown(insights.get("training")),
        "dummy baseline": _shown(insights.get("dummy")),
        "linear baseline": _shown(insights.get("linear")),
    }
    return [{"title": title, "cells": cells} for title, cells in columns.items() if cells]


def _shown(metrics: Mapping[str, float] | None) -> dict[str, str]:
    return {name: metric(value) for name, value in (metrics or {}).items()}


def _below(told: Mapping[str, Any], beginning: str) -> dict[str, str]:
    named = {
        name.removeprefix(beginning): v for name, v in told.items() if name.startswith(beginning)
    }
    return _shown(named)


def _folds(told: Mapping[str, Any]) -> dict[str, str]:
    """The means over folds, with their standard deviations."""
    means = {name[3:-5]: told[name] for name in told if re.fullmatch("cv_.*_mean", name)}
    return {name: f"{metric(v)} ± {metric(told[f'cv_{name}_std'])}" for name, v in means.items()}


def interval_axes(numbers: Mapping[str, Any], dummy: Mapping[str, float]) -> dict[str, Axis]:
    """The axis of each metric that has an interval."""
    return {
        name: interval_axis(name, ends, dummy.get(name))
        for name, ends in numbers["intervals"].items()
    }


def interval_axis(name: str, ends: Sequence[float], baseline: float | None) -> Axis:
    """The axis of a metric's interval: from 0 to 1 where that holds it, else what holds it."""
    values = [*ends, *([baseline] if baseline is not None and math.isfinite(baseline) else [])]
    if not lower_is_better(name) and min(values) >= 0:
        return SHARES
    return axis(values, 0.0, *([] if lower_is_better(name) else [1.0]))


def bars(pairs: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Names and values as bars without an interval."""
    return [{"name": name, "value": value, "low": value, "high": value} for name, value in pairs]


def spread(one: Mapping[str, Any]) -> dict[str, Any]:
    """A mean as a bar, with two standard deviations around it."""
    ends = {"low": one["mean"] - 2 * one["std"], "high": one["mean"] + 2 * one["std"]}
    return {"name": one["name"], "value": one["mean"], **ends}


def learning(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The lines of a learning curve, if there is one."""
    if not told or not told["points"]:
        return None
    lines = [
        {"label": part, "points": [(one["rows"], one[part]) for one in told["points"]]}
        for part in ("training", "validation")
    ]
    return {"metric": told["metric"], "lines": lines}


def picture(artifacts: Mapping[str, Any], made: str) -> str:
    """The steps and the exact versions that passed between them, as SVG."""
    known = {role: artifact for role, artifact in artifacts.items() if artifact}
    steps = [
        graph.Step(
            step,
            [known[role].name for role in READ[step] if role in known],
            {known[role].name: known[role].version for role in roles if role in known},
        )
        for step, roles in STEPS.items()
        if known.keys() & roles
    ]
    steps.append(graph.Step(REPORT, [known[role].name for role in READ[REPORT]], {made: ""}))
    return graph.as_svg(steps)


def notes(artifacts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the steps decided about the data, by step; what is likely wrong comes first."""
    found = []
    for step, roles in STEPS.items():
        made = [artifacts[role] for role in roles if artifacts.get(role)]
        told = [note for artifact in made for note in (artifact.metadata or {}).get("notes", [])]
        found += [{"step": step, **note} for note in told]
    once = {(note["step"], note["text"]): note for note in found}
    return sorted(once.values(), key=lambda note: not note["warning"])


def render_new_data(numbers: Mapping[str, Any]) -> str:
    """The text of the report of a model on new rows.

    Args:
        numbers: what the template ``new_data.html`` asks for; ``measured`` has what
            :func:`pipeline.science.report_data.measured_answers` gives, if the truth is known.
    """
    told = numbers["measured"] or {}
    return environment().get_template("new_data.html").render(
        {**numbers, **told},
        axes=interval_axes(told, {}) if told else {},
        beside=[{"title": "test data, when trained", "cells": _shown(numbers["trained"])}],
        dummy={},
        measured_on="these rows",
        these="rows",
        most=MOST,
        costs=None,
    )  # fmt: skip
