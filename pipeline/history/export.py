"""A comparison as a file: CSV and JSON for programs, HTML for people."""

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
from pipeline.history.compare import Comparison, commit
from pipeline.reporting.tables import markdown


def write(comparison: Comparison, path: Path) -> None:
    """Write the comparison in the format that the file's suffix names.

    Raises:
        PipelineError: another suffix, or a folder that can't be written.
    """
    form = FORMATS[check(path)]
    try:
        write_whole(path, form(comparison))
    except OSError as error:
        raise PipelineError(
            f"{path} can't be written: {error.strerror}", "name a file in a folder of yours"
        ) from error


def check(path: Path) -> str:
    """The suffix of a file that can be written.

    Raises:
        PipelineError: it names no format.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise PipelineError(
            f"--output {path} ends in no format that is known{did_you_mean(suffix, FORMATS)}",
            f"let it end in one of: {', '.join(FORMATS)}",
        )
    return suffix


def as_json(comparison: Comparison) -> str:
    """Each run with what differs; numbers that are not finite are null."""
    runs = []
    for index, run in enumerate(comparison.runs):
        every = run.parameters
        runs.append(
            {
                **_about(comparison, index),
                "parameters": {n: every[n] for n in comparison.parameters if n in every},
                "metrics": {n: _finite(v[index]) for n, v in comparison.metrics.items()},
                "differences": {
                    n: _finite(comparison.differences(n)[index]) for n in comparison.metrics
                },
                "artifacts": {
                    name: {key: artifact[key] for key in ("version", "digest", "type")}
                    for name, artifact in run.artifacts.items()
                },
            }
        )
    told = {"compared_with": comparison.runs[0].id, "sorted_by": comparison.metric}
    told |= {"note": comparison.note, "runs": runs}
    return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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
    """A line for each run, a column for each thing."""
    rows = []
    for index in range(len(comparison.runs)):
        row = _about(comparison, index)
        row |= {f"parameter.{n}": texts[index] for n, texts in comparison.parameters.items()}
        for name, values in comparison.metrics.items():
            row[f"metric.{name}"] = values[index]
            row[f"difference.{name}"] = comparison.differences(name)[index]
        for name, found in comparison.artifacts.items():
            artifact = found[index] or {}
            row |= {f"{key}.{name}": artifact.get(key) for key in ("version", "digest")}
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(comparison: Comparison) -> str:
    """A table for a comment: an item a line, a run a column."""
    rows = [["experiment", *(run.experiment for run in comparison.runs)]]
    rows += [["commit", *(commit(run) for run in comparison.runs)]]
    for name, values in comparison.metrics.items():
        changes = comparison.differences(name)
        rows.append([name, *map(_with_change, values, changes)])
    rows += [[name, *texts] for name, texts in comparison.parameters.items()]
    for name, found in comparison.artifacts.items():
        if len({artifact and artifact["digest"] for artifact in found}) > 1:
            rows.append([name, *(one["version"] if one else ABSENT for one in found)])
    note = f"\n{comparison.note}\n" if comparison.note else ""
    return markdown(["", *(run.id for run in comparison.runs)], rows) + note


def _with_change(value: float | None, change: float | None) -> str:
    return number(value) + ("" if change is None else f" ({difference(change)})")


def as_html(comparison: Comparison) -> str:
    """A page that needs no other file: an item a line, a run a column."""
    from pipeline.history import page  # not needed by the other formats

    return page.render(comparison)


PRINTED = {"csv": as_csv, "json": as_json, "markdown": as_markdown}
FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".csv": as_csv,
    ".json": as_json,
    ".html": as_html,
    ".md": as_markdown,
}
