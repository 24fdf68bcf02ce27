"""Exports a comparison as CSV, JSON, Markdown or HTML."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.files import write_whole
from pipeline.core.numbers import ABSENT, difference, number
from pipeline.history.compare import Comparison, commit, digests
from pipeline.reporting.tables import markdown


def write(comparison: Comparison, path: Path) -> None:
    """Write the comparison in the format of the file's suffix.

    Raises:
        PipelineError: The suffix is unknown, or the file can't be written.
    """
    form = FORMATS[check(path)]
    try:
        write_whole(path, form(comparison))
    except OSError as error:
        raise PipelineError(
            f"{path} can't be written: {error.strerror}", "name a file in a writable folder"
        ) from error


def check(path: Path) -> str:
    """Return the file's suffix, in lower case.

    Raises:
        PipelineError: The suffix is unknown.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise PipelineError(
            f"--output {path} has an unknown suffix{did_you_mean(suffix, FORMATS)}",
            f"use one of: {', '.join(FORMATS)}",
        )
    return suffix


def as_json(comparison: Comparison) -> str:
    """Each run with its differences; numbers that are not finite are null."""
    runs = []
    for index, run in enumerate(comparison.runs):
        parameters = run.parameters
        runs.append(
            {
                **_about(comparison, index),
                "parameters": {
                    name: parameters[name] for name in comparison.parameters if name in parameters
                },
                "metrics": {
                    name: _finite(values[index]) for name, values in comparison.metrics.items()
                },
                "differences": {
                    name: _finite(comparison.differences(name)[index])
                    for name in comparison.metrics
                },
                "artifacts": {
                    name: {key: artifact[key] for key in ("version", "digest", "type")}
                    for name, artifact in run.artifacts.items()
                },
            }
        )
    report = {"compared_with": comparison.runs[0].id, "sorted_by": comparison.metric}
    report |= {"note": comparison.note, "runs": runs}
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _about(comparison: Comparison, index: int) -> dict[str, Any]:
    run = comparison.runs[index]
    return {
        **run.about,
        "commit": run.commit,
        "uncommitted_changes": run.dirty,
        "mlflow_run": run.mlflow_run,
        "same_test_data": comparison.comparable[index],
    }


def as_csv(comparison: Comparison) -> str:
    """A row for each run; a column for each parameter, metric and artifact."""
    rows = []
    for index in range(len(comparison.runs)):
        row = _about(comparison, index)
        row |= {f"parameter.{name}": texts[index] for name, texts in comparison.parameters.items()}
        for name, values in comparison.metrics.items():
            row[f"metric.{name}"] = values[index]
            row[f"difference.{name}"] = comparison.differences(name)[index]
        for name, artifacts in comparison.artifacts.items():
            artifact = artifacts[index] or {}
            row |= {f"{key}.{name}": artifact.get(key) for key in ("version", "digest")}
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(comparison: Comparison) -> str:
    """A table for a comment in a pull request; each run is a column."""
    rows = [["experiment", *(run.experiment for run in comparison.runs)]]
    rows += [["commit", *(commit(run) for run in comparison.runs)]]
    for name, values in comparison.metrics.items():
        changes = comparison.differences(name)
        rows.append([name, *map(_with_change, values, changes)])
    rows += [[name, *texts] for name, texts in comparison.parameters.items()]
    for name, artifacts in comparison.artifacts.items():
        if len(digests(artifacts)) > 1:
            versions = (artifact["version"] if artifact else ABSENT for artifact in artifacts)
            rows.append([name, *versions])
    note = f"\n{comparison.note}\n" if comparison.note else ""
    return markdown(["", *(run.id for run in comparison.runs)], rows) + note


def _with_change(value: float | None, change: float | None) -> str:
    return number(value) + ("" if change is None else f" ({difference(change)})")


def as_html(comparison: Comparison) -> str:
    """A self-contained page; each run is a column."""
    from pipeline.history import page  # the other formats need neither of these
    from pipeline.history.stored import step_files

    return page.render(comparison, [step_files.measurements(run) for run in comparison.runs])


PRINTED = {"csv": as_csv, "json": as_json, "markdown": as_markdown}
FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".csv": as_csv,
    ".json": as_json,
    ".html": as_html,
    ".md": as_markdown,
}
