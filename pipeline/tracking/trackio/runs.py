"""Trackio as a tracker: a local store with W&B's API, no account and no server."""
# ruff: noqa: D102 - TrackerRun, which this implements, describes the methods

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline.core import settings, variables
from pipeline.core.errors import PipelineError
from pipeline.core.files import SCHEMA_FILE, combined_digest, content_digest, file_digest
from pipeline.tracking.interface import PIPELINE, Artifact, Chart, TrackerRun

# trackio reads this variable when it is imported
variables.set_variables({"TRACKIO_DIR": str(settings.trackio_dir())})

import trackio as trackio  # "as" marks a re-export, here and below, for the other modules here
from trackio import cas, context_vars
from trackio.remote_client import RemoteClient
from trackio.sqlite_storage import SQLiteStorage as SQLiteStorage
from trackio.typehints import Manifest, Sha256Digest
from trackio.utils import TRACKIO_DIR
from trackio.utils import project_media_dir as project_media_dir

if TYPE_CHECKING:
    import pandas as pd

if settings.trackio_dir() != TRACKIO_DIR:
    raise PipelineError(
        f"trackio was imported before the pipeline's library: it uses {TRACKIO_DIR}",
        f"import trackio within go(args, run), or set TRACKIO_DIR={settings.trackio_dir()}",
    )

for library in ("httpx", "httpx2"):  # or Hydra's log and the terminal show each request
    logging.getLogger(library).setLevel(logging.WARNING)

SUMMARY, STATUS = "summary", "status"  # keys in a run's config, and in that summary
FAILED = {STATUS: "failed"}


def remove_links() -> None:
    """Remove symbolic links named as the store's locks: trackio would empty their targets."""
    for lock in settings.trackio_dir().glob("*.lock"):
        if lock.is_symlink():
            lock.unlink(missing_ok=True)


remove_links()  # the state folder may come from somebody else


def find(project: str, reference: str) -> Artifact | None:
    """Resolve a reference to an exact version; None if there is none."""
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
    """The path of a file with this digest in the local store."""
    return cas.blob_path(project, Sha256Digest(digest))


def _server() -> RemoteClient | None:
    """The Trackio server in use; None for the local store."""
    url = os.environ.get("TRACKIO_SERVER_URL")
    return RemoteClient(url, write_token=os.environ.get("TRACKIO_WRITE_TOKEN")) if url else None


def _record(project: str, reference: str) -> dict[str, Any] | None:
    """Trackio's record of the version that a reference resolves to, or None."""
    name, _, spec = reference.partition(":")
    if server := _server():
        query = {"project": project, "name": name, "spec": spec}
        record: dict[str, Any] | None = server.predict(api_name="/get_artifact_manifest", **query)
        return record
    return SQLiteStorage.get_artifact_manifest(project, name, spec or None)


def fetch(project: str, reference: str, into: Path) -> Artifact:
    """Fetch a version's files into a folder, outside of any run.

    Raises:
        PipelineError: the version does not exist, or its files are missing or damaged.
    """
    record = _record(project, reference)
    if record is None:
        raise _unknown(project, reference)
    names = ("version", "aliases", "manifest", "manifest_digest", "size_bytes", "metadata")
    artifact = trackio.Artifact(record["name"], type=record["type"])
    values = {name: record[name] for name in names}
    artifact._hydrate_from_db(project=project, **values)  # noqa: SLF001 - Trackio has no public call
    if url := os.environ.get("TRACKIO_SERVER_URL"):
        token = os.environ.get("TRACKIO_WRITE_TOKEN")
        source = {"server_base_url": url, "write_token": token}
        artifact._remote_source = source  # noqa: SLF001 - Trackio has no public call
    return _fetch(project, artifact, reference, into)


def _fetch(project: str, artifact: trackio.Artifact, reference: str, into: Path) -> Artifact:
    """Download a Trackio artifact into a folder, and convert it to an :class:`Artifact`."""
    path = Path(_download(project, artifact, reference, into))
    digest, metadata = content_digest(path), artifact.metadata
    version = artifact.version or ""
    return Artifact(artifact.name, version, digest, artifact.type, metadata, path)


def _download(project: str, artifact: trackio.Artifact, reference: str, into: Path) -> str:
    """Download the files and check their digests, which Trackio does not check.

    Raises:
        PipelineError: a file is missing or damaged.
    """
    try:
        root = artifact.download(into)
    except FileNotFoundError as error:
        raise PipelineError(
            f"artifact {reference!r} is missing a file: {error}",
            "run the step that made it again (main.force=true)",
        ) from error
    for entry in artifact.manifest or []:
        actual = file_digest(Path(root, entry["path"]))
        if actual != entry["digest"]:
            blob = blob_path(project, entry["digest"])
            raise PipelineError(
                f"artifact {reference!r} is damaged: {entry['path']} should have digest "
                f"{entry['digest'][:12]} and has {actual[:12]} ({blob})",
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
    """Move an alias to this version.

    A Trackio server has no call for that. Logging the same content with the alias has the same
    effect, but never moves an alias to an older version.

    Raises:
        PipelineError: there is no such version, or the server has the alias on a newer version.
    """
    record = _record(project, reference)
    if record is None:
        raise PipelineError(
            f"the alias {alias!r} can't be set: there is no {reference!r} in Trackio project "
            f"{project!r}",
            "run the step that makes it, or register another version",
        )
    server = _server()
    if server is None:
        ids = record["artifact_id"], alias, record["version_id"]
        SQLiteStorage.reassign_alias(project, *ids)
        return
    version = {key: record[key] for key in ("name", "type", "description", "metadata", "manifest")}
    logged = server.predict(
        api_name="/artifact_log",
        project=project,
        aliases=[alias],
        run_name=record["producer_run_name"],
        run_id=record["producer_run_id"],
        hf_token=None,
        **version,
    )
    if alias not in logged["aliases"]:
        raise PipelineError(
            f"the alias {alias!r} is on a newer version than {reference}, and a Trackio server "
            "moves an alias forward only",
            "predict and serve use the alias in MLflow's registry, which is set",
        )


def _stored(project: str, manifest: Manifest) -> dict[str, str]:
    """The digest of each file of a local artifact, by its path below Trackio's folder.

    A table precedes its schema.
    """
    root = settings.trackio_dir()
    entries = sorted(manifest, key=lambda entry: entry["path"] == SCHEMA_FILE)
    digests = [entry["digest"] for entry in entries]
    paths = (blob_path(project, digest) for digest in digests)
    return {
        str(path.relative_to(root)): digest for path, digest in zip(paths, digests, strict=True)
    }


class TrackioRun(TrackerRun):
    """A run in Trackio.

    Trackio has no job type and no summary, and shows each logged number as a chart. So the job type
    and the numbers that a step logs only once, without a step number, are stored in the run's
    config, which the run's page and the comparison of runs show. The numbers of a whole pipeline's
    run stay charts, with a bar per run.
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
        self.id, self._config = self._run.id, cast(dict[str, Any], self._run.config)
        self._logged_once, self._summary = dict[str, Any](), dict[str, Any]()
        self._charted, self._series_names = job_type == PIPELINE, set[str]()
        self._remote = bool(os.environ.get("TRACKIO_SERVER_URL"))

    def use_artifact(self, reference: str, into: Path) -> Artifact:
        return _fetch(self._project, self._use(reference), reference, into)

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
        """Remove a damaged blob, because Trackio reuses a blob by its name without checking it."""
        digest = file_digest(file)
        blob = blob_path(self._project, digest)
        if blob.is_symlink() or (blob.is_file() and file_digest(blob) != digest):
            blob.unlink()
        elif blob.is_dir():  # not made by Trackio, so it is moved aside instead of removed
            blob.rename(blob.with_name(f"{digest}.{time.time_ns()}.partial.aside"))

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        logged = {k: _as_trackio(v) for k, v in self.loggable(values).items()}
        numbers = [k for k, v in logged.items() if isinstance(v, Real)]
        if step is None and not self._charted:
            unseen = [
                k for k in numbers if k not in self._logged_once and k not in self._series_names
            ]
            self._logged_once.update({k: logged.pop(k) for k in unseen})
        firsts = {k: self._logged_once.pop(k) for k in logged if k in self._logged_once}
        self._series_names.update(k for k in numbers if k in logged)
        for batch, batch_step in ((firsts, None), (logged, step)):
            if batch:
                self._run.log(batch, step=batch_step)

    def update(self, summary: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self._config.update(config)
        self._summary.update(summary)  # stored by finish()

    def _store_config(self) -> None:
        # Trackio sends the config with the first log only, and stores the first config of a batch.
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
        if summary := {**self._logged_once, **self._summary, **(FAILED if failed else {})}:
            config = dict(self._config)
            self._config.clear()  # the summary comes first on the run's page
            self._config.update({SUMMARY: summary, **config})
        if summary or not self._run._config_logged:  # noqa: SLF001 - Trackio has no public call
            self._store_config()
        self._run.finish()
        if context_vars.current_run.get() is self._run:  # else Trackio finishes it again at exit
            context_vars.current_run.set(None)


def _as_trackio(value: Any) -> Any:
    """Convert an image, table or chart of the wandb library to Trackio's; else return the value."""
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
