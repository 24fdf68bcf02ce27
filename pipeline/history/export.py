"""A comparison as a file: CSV and JSON for programs, HTML for people."""

import csv
import io
import json
import math
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.files import write_whole
from pipeline.core.metrics import lower_is_better
from pipeline.core.numbers import ABSENT, difference, number
from pipeline.history.compare import Comparison, commit
from pipeline.reporting.tables import markdown

LONGEST = 60  # characters of a value that a page shows at once


def write(comparison: Comparison, path: Path) -> None:
    """Write the comparison in the format that the file's suffix names.

    Raises:
        PipelineError: another suffix, or a folder that can't be written.
    """
    format = FORMATS[check(path)]
    try:
        write_whole(path, format(comparison))
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
        "run": run.id,
        "status": run.status,
        "started": run.started.isoformat(timespec="seconds"),
        "developer": run.developer,
        "experiment": run.experiment,
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


STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { margin: 2rem; } main { overflow-x: auto }
h1 { font-size: 1.3rem; margin: 0 } p { color: gray; margin: 0 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem 1.2rem .25rem 0; vertical-align: top }
td { border-top: 1px solid #8883; max-width: 24rem; overflow-wrap: anywhere }
thead th { font-weight: 600; white-space: nowrap }
tbody th { font-weight: 400; color: gray; border-top: 1px solid #8883 }
tbody th:first-child, thead th:first-child { position: sticky; left: 0; background: Canvas }
tbody.title th { color: inherit; font-weight: 600; padding-top: 1.2rem; border: 0 }
.better { color: #18823a } .worse { color: #c4302b } .same, small { color: gray }
""".strip()


def as_html(comparison: Comparison) -> str:
    """A page that needs no other file: an item a line, a run a column."""
    runs = comparison.runs
    head = "".join(f"<th>{escape(run.id)}</th>" for run in runs)
    about: dict[str, list[str]] = {
        "status": [escape(run.status) for run in runs],
        "started": [f"{run.started:%Y-%m-%d %H:%M} UTC" for run in runs],
        "developer": [escape(run.developer) for run in runs],
        "experiment": [escape(run.experiment) for run in runs],
        "commit": [escape(commit(run)) for run in runs],
    }
    metrics = {
        name: [*map(_measured(name), values, comparison.differences(name))]
        for name, values in comparison.metrics.items()
    }
    parameters = {n: [*map(_folded, texts)] for n, texts in comparison.parameters.items()}
    artifacts = {n: [*map(_version, found)] for n, found in comparison.artifacts.items()}
    sections = {
        "Run": about,
        "Metrics": metrics,
        "Parameters that differ": parameters,
        "Data versions": artifacts,
    }
    body = "".join(_section(title, rows, len(runs)) for title, rows in sections.items() if rows)
    sort = f", sorted by {comparison.metric}" if comparison.metric else ""
    told = f"Compared with {runs[0].id}{sort}. * code with changes that were not committed."
    told += f" {comparison.note[:1].upper()}{comparison.note[1:]}." if comparison.note else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{len(runs)} runs compared</title>\n<style>\n{STYLE}\n</style></head>\n"
        f"<body><h1>{len(runs)} runs compared</h1>\n<p>{escape(told)}</p>\n"
        f"<main><table>\n<thead><tr><th></th>{head}</tr></thead>\n{body}</table></main>"
        "</body></html>\n"
    )


def _folded(text: str) -> str:
    """A long value as its beginning, which opens on a click."""
    if len(text) <= LONGEST:
        return escape(text)
    return f"<details><summary>{escape(text[:LONGEST])}…</summary>{escape(text)}</details>"


def _section(title: str, rows: dict[str, list[str]], count: int) -> str:
    lines = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"
        for name, cells in rows.items()
    )
    return (
        f'<tbody class="title"><tr><th colspan="{count + 1}">{title}</th></tr></tbody>\n'
        f"<tbody>\n{lines}</tbody>\n"
    )


def _measured(name: str) -> Callable[[float | None, float | None], str]:
    sign = -1 if lower_is_better(name) else 1

    def cell(value: float | None, change: float | None) -> str:
        text = number(value)
        if change is None:
            return text
        kind = "same" if not change else "better" if sign * change > 0 else "worse"
        return f'{text} <span class="{kind}">{difference(change)}</span>'

    return cell


def _version(artifact: dict[str, Any] | None) -> str:
    if artifact is None:
        return ABSENT
    digest = escape(artifact["digest"])
    return f'{escape(artifact["version"])} <small title="{digest}">{digest[:12]}</small>'


PRINTED = {"csv": as_csv, "json": as_json, "markdown": as_markdown}
FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".csv": as_csv,
    ".json": as_json,
    ".html": as_html,
    ".md": as_markdown,
}
