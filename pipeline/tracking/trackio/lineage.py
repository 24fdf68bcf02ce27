"""Reads the runs of a pipeline run from Trackio, with the runs that made their inputs."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import combined_digest
from pipeline.core.results import damaged_files

# Import Trackio from trackio.runs, which sets TRACKIO_DIR before trackio is imported.
from pipeline.core.text import say
from pipeline.tracking.interface import PIPELINE, STATUS_OF
from pipeline.tracking.trackio.runs import FAILED, STATUS, SUMMARY, SQLiteStorage, blob_path

IMAGE, TABLE, HTML = "trackio.image", "trackio.table", "trackio.html"


@dataclass(frozen=True)
class Version:
    """A version of an artifact.

    Attributes:
        maker: the id of the run that first made it, if that is known.
        blobs: the stored path of each of its files; the path's name is the file's digest.
    """

    name: str
    number: str
    type: str
    description: str
    metadata: Mapping[str, Any]
    aliases: list[str]
    created: str
    maker: str | None
    blobs: Mapping[str, Path]

    @property
    def reference(self) -> str:
        """``name:v3``."""
        return f"{self.name}:{self.number}"

    @property
    def digest(self) -> str:
        """The digest of its content, as :func:`pipeline.core.files.content_digest` computes it."""
        return combined_digest({name: place.name for name, place in self.blobs.items()})

    def problems(self) -> list[str]:
        """A line for each of its files that is missing or damaged."""
        stored = {str(place): place.name for place in self.blobs.values()}
        return damaged_files(self.reference, settings.trackio_dir(), stored)


@dataclass(frozen=True)
class Row:
    """The values of one kind that a run logged in one call.

    Attributes:
        kind: ``values``, ``summary`` (of a whole pipeline), ``figures`` (images and pages) or
            ``table``.
        content: by name: values, the files of figures, or the rows of a single table.
        time: seconds since 1970.
    """

    kind: str
    content: Mapping[str, Any]
    time: float


@dataclass(frozen=True)
class RecordedRun:
    """A run in Trackio with all that it logged, its inputs and its outputs."""

    project: str
    id: str
    name: str
    config: Mapping[str, Any]
    failed: bool
    rows: list[Row]
    inputs: list[Version]
    outputs: list[Version]

    def problems(self) -> list[str]:
        """A line for each of its files that is missing or damaged."""
        problems = [line for version in self.inputs + self.outputs for line in version.problems()]
        figures = [row.content for row in self.rows if row.kind == "figures"]
        for name, path in (item for content in figures for item in content.items()):
            if not path.is_file():
                problems.append(f"figure {name!r} of {self.name} is missing its file {path}")
        return problems


def recorded_runs(project: str, run_id: str, summary: Mapping[str, Any]) -> list[RecordedRun]:
    """The runs of a pipeline run, and the runs that made their inputs.

    A cached step's run belongs to an earlier pipeline run. A run comes after the runs that made its
    inputs; the run of the whole pipeline, if there is one, comes last.

    Args:
        project: the project in Trackio.
        run_id: the pipeline's run.
        summary: its ``summary.json``.

    Raises:
        PipelineError: none of its runs is in the local Trackio.
    """
    records = SQLiteStorage.get_run_records(project)
    names = {run["id"]: run["name"] for run in records if run["id"] and run["name"]}
    run_ids = _run_ids(project, run_id, summary, names)
    runs = {id: _read(project, id, names[id]) for id in run_ids}
    # Several runs may have made a version; the pipeline run's own step takes precedence.
    makers = {output.reference: run.id for run in runs.values() for output in run.outputs}
    ordered: dict[str, RecordedRun] = {}
    visited: set[str] = set()

    def visit(id: str) -> None:
        visited.add(id)
        run = runs.get(id) or _read(project, id, names[id])
        for version in run.inputs:
            maker = makers.get(version.reference, version.maker)
            if maker in names and maker not in visited:
                visit(maker)
        ordered[id] = run

    for id in runs:
        if id not in visited:
            visit(id)
    return list(ordered.values())


def _run_ids(
    project: str, run_id: str, summary: Mapping[str, Any], names: Mapping[str, str]
) -> Iterable[str]:
    """The Trackio ids of a pipeline run and its steps' runs."""
    ids = {name: id for id, name in names.items()}
    run_ids, missing = [], []
    for name, step in summary["steps"].items():
        if step["status"] in ("ran", "cached"):
            if step["tracker_run"] in names:
                run_ids.append(step["tracker_run"])
            else:
                missing.append(name)
        elif (unfinished := f"{name}-{run_id}") in ids:
            run_ids.append(ids[unfinished])
    if not run_ids:
        raise PipelineError(
            f"Trackio has nothing of run {run_id} in project {project!r} "
            f"({settings.trackio_dir()})",
            "set TRACKIO_DIR to its store; for a Trackio server, run this command on the server",
        )
    if missing:
        say(f"warning: missing in Trackio, and not copied: {', '.join(missing)}", file=sys.stderr)
    pipeline_run = ids.get(f"{PIPELINE}-{run_id}")
    return [*run_ids, pipeline_run] if pipeline_run else run_ids


def _read(project: str, id: str, name: str) -> RecordedRun:
    """Read a run from Trackio's store."""
    links = SQLiteStorage.get_run_artifacts(project, name, id)
    config = SQLiteStorage.get_run_config(project, run_id=id) or {}
    summary = config.pop(SUMMARY, {})
    failed = summary.items() >= FAILED.items()
    if failed and not any(key.startswith(STATUS_OF) for key in summary):
        del summary[STATUS]  # ``failed`` holds it already
    logs = SQLiteStorage.get_logs(project, run_id=id)
    if summary and logs:  # the summary was stored with the last log
        logs = [*logs, {**summary, "timestamp": logs[-1]["timestamp"]}]
    rows = [row for log in logs for row in _rows(log)]
    return RecordedRun(
        project,
        id,
        name,
        config,
        failed,
        rows,
        [_version(link) for link in links["input"]],
        [_version(link) for link in links["output"]],
    )


def _rows(log: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of one call of log, one for each kind."""
    figures, tables, values = {}, {}, {}
    for name, value in log.items():
        kind = value.get("_type") if isinstance(value, Mapping) else None
        if kind in (IMAGE, HTML):
            figures[name] = settings.trackio_dir() / "media" / value["file_path"]
        elif kind == TABLE:
            tables[name] = value["_value"]
        elif name not in ("timestamp", "step"):  # these are Trackio's own
            values[name] = value
    time = datetime.fromisoformat(log["timestamp"]).timestamp()
    summary = any(name.startswith(STATUS_OF) for name in values)
    contents = [("summary" if summary else "values", values), ("figures", figures)]
    contents += [("table", {name: table}) for name, table in tables.items()]
    yield from (Row(kind, content, time) for kind, content in contents if content)


def _version(link: Mapping[str, Any]) -> Version:
    """The version that an artifact link of a run refers to.

    Raises:
        PipelineError: the version is gone from Trackio.
    """
    number = f"v{link['version']}"
    record = SQLiteStorage.get_artifact_manifest(link["project"], link["name"], number)
    if record is None:
        raise PipelineError(
            f"{link['name']}:{number} is gone from Trackio project {link['project']!r}",
            "run the step that makes it again (main.force=true)",
        )
    return Version(
        record["name"],
        number,
        record["type"],
        record["description"] or "",
        record["metadata"] or {},
        record["aliases"],
        record["created_at"],
        record["producer_run_id"],
        {e["path"]: blob_path(link["project"], e["digest"]) for e in record["manifest"]},
    )
