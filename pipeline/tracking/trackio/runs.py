"""Trackio as a tracker: a local store with W&B's API, no account and no server."""
# ruff: noqa: D102 - TrackerRun, which this implements, describes the methods

import os
import sys
import time
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import settings, variables
from pipeline.core.errors import PipelineError
from pipeline.core.files import SCHEMA_FILE, combined_digest, content_digest, file_digest
from pipeline.tracking.interface import PIPELINE, Artifact, Chart, TrackerRun

# read when trackio is imported
variables.set_variables({"TRACKIO_DIR": str(settings.trackio_dir())})

import trackio as trackio  # by name, here and below: for the modules beside this one
from trackio import cas, context_vars
from trackio.remote_client import RemoteClient
from trackio.sqlite_storage import SQLiteStorage as SQLiteStorage
from trackio.typehints import Manifest, Sha256Digest

if TYPE_CHECKING:
    import pandas as pd

if settings.trackio_dir() != trackio.utils.TRACKIO_DIR:
    raise PipelineError(
        f"trackio was imported before the pipeline's library: it uses {trackio.utils.TRACKIO_DIR}",
        f"import trackio within go(args, run), or set TRACKIO_DIR={settings.trackio_dir()}",
    )


SUMMARY, STATUS = "summary", "status"  # in a run's config, and in that: how the run ended
FAILED = {STATUS: "failed"}


def remove_links() -> None:
    """Remove links in place of the store's locks: trackio empties the files that they lead to."""
    for lock in settings.trackio_dir().glob("*.lock"):
        if lock.is_symlink():
            lock.unlink(missing_ok=True)


remove_links()  # of a state folder that somebody else has written


def find(project: str, reference: str) -> Artifact | None:
    """The exact version that a reference means now, or None."""
    name = reference.partition(":")[0]
    record = _record(project, reference)
    if record is None:
        return None
    manifest = record["manifest"]
    return Artifact(
        name,
        f"v{record['version']}",
        combined_digest({entry["path"]: entry["digest"] for entry in manifest}),
        record["type"],
        record["metadata"] or {},
        stored={} if _server() else _stored(project, manifest),
    )


def blob_path(project: str, digest: str) -> Path:
    """Where the local store keeps a file with this digest."""
    return cas.blob_path(project, Sha256Digest(digest))


def _server() -> RemoteClient | None:
    """The Trackio server in use, if it is not the local store."""
    url = os.environ.get("TRACKIO_SERVER_URL")
    return RemoteClient(url, write_token=os.environ.get("TRACKIO_WRITE_TOKEN")) if url else None


def _record(project: str, reference: str) -> dict[str, Any] | None:
    """What Trackio has on the version that a reference means now."""
    name, _, spec = reference.partition(":")
    if server := _server():
        given = {"project": project, "name": name, "spec": spec}
        record: dict[str, Any] | None = server.predict(api_name="/get_artifact_manifest", **given)
        return record
    return SQLiteStorage.get_artifact_manifest(project, name, spec or None)


def fetch(project: str, reference: str, into: Path) -> Artifact:
    """Bring a version's files into a folder, and let no run count as their reader."""
    record = _record(project, reference)
    if record is None:
        raise _unknown(project, reference)
    names = ("version", "aliases", "manifest", "manifest_digest", "size_bytes", "metadata")
    artifact = trackio.Artifact(record["name"], type=record["type"])
    given = {name: record[name] for name in names}
    artifact._hydrate_from_db(project=project, **given)  # noqa: SLF001 - Trackio has no public call
    if url := os.environ.get("TRACKIO_SERVER_URL"):
        token = os.environ.get("TRACKIO_WRITE_TOKEN")
        source = {"server_base_url": url, "write_token": token}
        artifact._remote_source = source  # noqa: SLF001 - Trackio has no public call
    return _fetched(project, artifact, reference, into)


def _fetched(project: str, artifact: trackio.Artifact, reference: str, into: Path) -> Artifact:
    """An artifact of Trackio's as one of ours, its files in a folder."""
    path = Path(_download(project, artifact, reference, into))
    digest, metadata = content_digest(path), artifact.metadata
    version = artifact.version or ""
    return Artifact(artifact.name, version, digest, artifact.type, metadata, path)


def _download(project: str, artifact: trackio.Artifact, reference: str, into: Path) -> str:
    """Fetch the files and compare them with the manifest, which Trackio itself does not."""
    try:
        root = artifact.download(into)
    except FileNotFoundError as error:
        raise PipelineError(
            f"artifact {reference!r} has lost its bytes: {error}",
            "run the step that made it again (main.force=true)",
        ) from error
    for entry in artifact.manifest or []:
        found = file_digest(Path(root, entry["path"]))
        if found != entry["digest"]:
            blob = blob_path(project, entry["digest"])
            raise PipelineError(
                f"artifact {reference!r} is damaged: {entry['path']} should have digest "
                f"{entry['digest'][:12]} and has {found[:12]} ({blob})",
                "run the step that made it again (main.force=true)",
            )
    return root


def _unknown(project: str, reference: str) -> PipelineError:
    return PipelineError(
        f"artifact {reference!r} was not found in Trackio project "
        f"{project!r} ({settings.trackio_dir()})",
        "check its name and version, or run the step that makes it",
    )


def set_alias(project: str, reference: str, alias: str) -> None:
    """Let an alias mean this version from now on.

    A Trackio server has no call for it, only logs the same content again with the alias, and
    never moves one to an older version.
    """
    record = _record(project, reference)
    if record is None:
        raise PipelineError(
            f"there is no {reference!r} in Trackio project {project!r} to be {alias!r}",
            "run the step that makes it, or register another version",
        )
    server = _server()
    if server is None:
        ids = record["artifact_id"], alias, record["version_id"]
        SQLiteStorage.reassign_alias(project, *ids)
        return
    given = {key: record[key] for key in ("name", "type", "description", "metadata", "manifest")}
    logged = server.predict(
        api_name="/artifact_log",
        project=project,
        aliases=[alias],
        run_name=record["producer_run_name"],
        run_id=record["producer_run_id"],
        hf_token=None,
        **given,
    )
    if alias not in logged["aliases"]:
        raise PipelineError(
            f"the alias {alias!r} is on a newer version than {reference}, and a Trackio server "
            "moves an alias forward only",
            "MLflow's registry has it right, and is what predict and serve go by",
        )


def _stored(project: str, manifest: Manifest) -> dict[str, str]:
    """Where the files of a local artifact are, below Trackio's folder, and their digests.

    A table goes before its schema.
    """
    root = settings.trackio_dir()
    entries = sorted(manifest, key=lambda entry: entry["path"] == SCHEMA_FILE)
    digests = [entry["digest"] for entry in entries]
    places = (blob_path(project, digest) for digest in digests)
    return {
        str(place.relative_to(root)): digest for place, digest in zip(places, digests, strict=True)
    }


class TrackioRun(TrackerRun):
    """A run in Trackio; Trackio has no job type, so that is part of the run's config.

    Nor has it a summary: each number that is logged becomes a chart. So a number that a step logs
    only once, without a place in a series, is part of the config too, which the page of the run
    and the comparison of runs show. Those of a whole pipeline stay charts, with a bar per run.
    """

    kind = "trackio"
    url = None

    def __init__(self, *, project: str, job_type: str, name: str, config: Mapping[str, Any]):
        self._project = project
        self._run = trackio.init(
            project=project,
            group=settings.experiment(),
            name=name,
            config={"job_type": job_type, **config},
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        self.id = self._run.id
        self._once, self._summary = dict[str, Any](), dict[str, Any]()
        self._charted, self._series = job_type == PIPELINE, set[str]()
        self._remote = bool(os.environ.get("TRACKIO_SERVER_URL"))

    def use_artifact(self, reference: str, into: Path) -> Artifact:
        return _fetched(self._project, self._use(reference), reference, into)

    def use_unread(self, reference: str) -> None:
        self._use(reference)

    def _use(self, reference: str) -> trackio.Artifact:
        try:
            return self._run.use_artifact(reference)
        except ValueError as error:
            raise _unknown(self._project, reference) from error

    def log_artifact(
        self,
        path: Path,
        name: str,
        type: str,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> Artifact:
        metadata = dict(metadata or {})
        artifact = trackio.Artifact(name, type=type, description=description, metadata=metadata)
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        for file in files:
            self._drop_damaged_blob(file)
        artifact.add_file(path) if path.is_file() else artifact.add_dir(path)
        logged = self._run.log_artifact(artifact, aliases=[*aliases])
        return Artifact(
            name,
            logged.version or "",
            content_digest(path),
            type,
            metadata,
            stored={} if self._remote else _stored(self._project, logged.manifest or []),
        )

    def _drop_damaged_blob(self, file: Path) -> None:
        """Trackio keeps a blob that has the right name, whatever its bytes; make room for ours."""
        digest = file_digest(file)
        blob = blob_path(self._project, digest)
        if blob.is_symlink() or (blob.is_file() and file_digest(blob) != digest):
            blob.unlink()
        elif blob.is_dir():  # not made here: it is moved aside
            blob.rename(blob.with_name(f"{digest}.{time.time_ns()}.partial.aside"))

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        logged = {k: _own(v) for k, v in self.loggable(values).items()}
        numbers = [k for k, v in logged.items() if isinstance(v, Real)]
        if step is None and not self._charted:
            new = [k for k in numbers if k not in self._once and k not in self._series]
            self._once.update({k: logged.pop(k) for k in new})
        firsts = {k: self._once.pop(k) for k in logged if k in self._once}
        self._series.update(k for k in numbers if k in logged)
        for each, place in ((firsts, None), (logged, step)):
            if each:
                self._run.log(each, step=place)

    def update(self, summary: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self._run.config.update(config)
        self._summary.update(summary)  # stored at the end, with the rest

    def _store_config(self) -> None:
        # The settings go with what is logged first, and of a batch of logs only the first
        # settings are stored.
        with self._run._queue_lock:  # noqa: SLF001 - Trackio has no public call
            for entry in self._run._queued_logs:  # noqa: SLF001 - Trackio has no public call
                entry["config"] = None
        self._run._config_logged = False  # noqa: SLF001 - Trackio has no public call
        self._run.log({})

    def image(self, path: Path) -> trackio.Image:
        return trackio.Image(path)

    def table(self, frame: "pd.DataFrame") -> trackio.Table:
        return trackio.Table(dataframe=frame)

    def html(self, path: Path) -> trackio.Html:
        return trackio.Html(path)

    def chart(self, name: str, chart: Chart) -> trackio.Table:  # noqa: ARG002 - a table has none
        return self.table(chart.table)

    def bars(
        self,
        name: str,  # noqa: ARG002 - a table has none
        values: "pd.Series",
    ) -> trackio.Table:
        return self.table(values.rename_axis("label").reset_index())

    def alert(self, title: str, text: str) -> None:
        self._run.alert(title, text, level=trackio.AlertLevel.ERROR)

    def finish(
        self,
        failed: bool = False,
        error: BaseException | None = None,  # noqa: ARG002 - Trackio has no place for it
    ) -> None:
        if summary := {**self._once, **self._summary, **(FAILED if failed else {})}:
            given = dict(self._run.config)
            self._run.config.clear()  # the summary comes first on the run's page
            self._run.config.update({SUMMARY: summary, **given})
        if summary or not self._run._config_logged:  # noqa: SLF001 - Trackio has no public call
            self._store_config()
        self._run.finish()
        if context_vars.current_run.get() is self._run:  # or Trackio ends it again at exit
            context_vars.current_run.set(None)


def _own(value: Any) -> Any:
    """An image, a table or a chart of the wandb library as Trackio's own; the rest as it is."""
    wandb = sys.modules.get("wandb")
    if wandb is None:
        return value
    if isinstance(value, wandb.Image):
        return trackio.Image(value.image)
    if isinstance(value, wandb.plot.CustomChart):
        value = value.table
    if isinstance(value, wandb.Table):
        return trackio.Table(dataframe=value.get_dataframe())
    return value
