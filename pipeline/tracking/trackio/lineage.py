"""The runs of a pipeline run as Trackio has them, and those that made what they read."""

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

# Trackio is taken from there, because that module first tells it where its store is.
from pipeline.core.text import say
from pipeline.tracking.interface import PIPELINE, STATUS_OF
from pipeline.tracking.trackio.runs import FAILED, STATUS, SUMMARY, SQLiteStorage, blob_path

IMAGE, TABLE, HTML = "trackio.image", "trackio.table", "trackio.html"


@dataclass(frozen=True)
class Version:
    """A version of an artifact.

    Attributes:
        maker: the id of the run that made it first, if that is known.
        places: where each of its files is; the name of that place is the file's digest.
    """

    name: str
    number: str
    type: str
    description: str
    metadata: Mapping[str, Any]
    aliases: list[str]
    created: str
    maker: str | None
    places: Mapping[str, Path]

    @property
    def reference(self) -> str:
        """``name:v3``."""
        return f"{self.name}:{self.number}"

    @property
    def digest(self) -> str:
        """The digest of its content, as :func:`pipeline.core.files.content_digest` has it."""
        return combined_digest({name: place.name for name, place in self.places.items()})

    def problems(self) -> list[str]:
        """Each of its files that is gone or damaged."""
        stored = {str(place): place.name for place in self.places.values()}
        return damaged_files(self.reference, settings.trackio_dir(), stored)


@dataclass(frozen=True)
class Row:
    """What a run logged at once, of one kind.

    Attributes:
        kind: ``values``, ``summary`` (of a whole pipeline), ``figures`` (images and pages) or
            ``table``.
        content: by name: values, the files of images, or the one table's list of rows.
        time: when, in seconds since 1970.
    """

    kind: str
    content: Mapping[str, Any]
    time: float


@dataclass(frozen=True)
class Recorded:
    """A run, and the project that it is in."""

    project: str
    id: str
    name: str
    config: Mapping[str, Any]
    failed: bool
    rows: list[Row]
    inputs: list[Version]
    outputs: list[Version]

    def problems(self) -> list[str]:
        """Each of its files that is gone or damaged."""
        found = [line for version in self.inputs + self.outputs for line in version.problems()]
        figures = [row.content for row in self.rows if row.kind == "figures"]
        for name, path in (item for content in figures for item in content.items()):
            if not path.is_file():
                found.append(f"figure {name!r} of {self.name} is missing its file {path}")
        return found


def recorded(project: str, run_id: str, summary: Mapping[str, Any]) -> list[Recorded]:
    """The runs of a pipeline run, and those that made what they read.

    A step that was cached was run by an earlier pipeline run. Whoever made something comes before
    those who read it, and the run of the whole pipeline, if there is one, comes last.

    Raises:
        PipelineError: none of them is in the local Trackio.
    """
    records = SQLiteStorage.get_run_records(project)
    names = {run["id"]: run["name"] for run in records if run["id"] and run["name"]}
    chosen = _chosen(project, run_id, summary, names)
    runs = {id: _read(project, id, names[id]) for id in chosen}
    # A version may have been made again; then the pipeline run's own step counts as its maker.
    makers = {output.reference: run.id for run in runs.values() for output in run.outputs}
    ordered: dict[str, Recorded] = {}
    begun: set[str] = set()

    def visit(id: str) -> None:
        begun.add(id)
        run = runs.get(id) or _read(project, id, names[id])
        for version in run.inputs:
            maker = makers.get(version.reference, version.maker)
            if maker in names and maker not in begun:
                visit(maker)
        ordered[id] = run

    for id in runs:
        if id not in begun:
            visit(id)
    return list(ordered.values())


def _chosen(
    project: str, run_id: str, summary: Mapping[str, Any], names: Mapping[str, str]
) -> Iterable[str]:
    """The ids of the runs that a pipeline run and its steps have in Trackio."""
    ids = {name: id for id, name in names.items()}
    chosen, gone = [], []
    for name, step in summary["steps"].items():
        if step["status"] in ("ran", "cached"):
            if step["tracker_run"] in names:
                chosen.append(step["tracker_run"])
            else:
                gone.append(name)
        elif (unfinished := f"{name}-{run_id}") in ids:
            chosen.append(ids[unfinished])
    if not chosen:
        raise PipelineError(
            f"Trackio has nothing of run {run_id} in project {project!r} "
            f"({settings.trackio_dir()})",
            "set TRACKIO_DIR to the store it is in; if that is a Trackio server's, do this there",
        )
    if gone:
        say(f"warning: gone from Trackio, and not copied: {', '.join(gone)}", file=sys.stderr)
    whole = ids.get(f"{PIPELINE}-{run_id}")
    return [*chosen, whole] if whole else chosen


def _read(project: str, id: str, name: str) -> Recorded:
    """A run with all it logged, used and made."""
    links = SQLiteStorage.get_run_artifacts(project, name, id)
    config = SQLiteStorage.get_run_config(project, run_id=id) or {}
    summary = config.pop(SUMMARY, {})
    failed = summary.items() >= FAILED.items()
    if failed and not any(key.startswith(STATUS_OF) for key in summary):
        del summary[STATUS]  # which says no more than that
    logs = SQLiteStorage.get_logs(project, run_id=id)
    if summary and logs:  # it was stored with the last one
        logs = [*logs, {**summary, "timestamp": logs[-1]["timestamp"]}]
    rows = [row for log in logs for row in _rows(log)]
    return Recorded(
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
    """What was logged at once, kind by kind."""
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
    """The version that a run used or made."""
    number = f"v{link['version']}"
    found = SQLiteStorage.get_artifact_manifest(link["project"], link["name"], number)
    if found is None:
        raise PipelineError(
            f"{link['name']}:{number} is gone from Trackio project {link['project']!r}",
            "run the step that makes it again (main.force=true)",
        )
    return Version(
        found["name"],
        number,
        found["type"],
        found["description"] or "",
        found["metadata"] or {},
        found["aliases"],
        found["created_at"],
        found["producer_run_id"],
        {e["path"]: blob_path(link["project"], e["digest"]) for e in found["manifest"]},
    )
