"""Whether the local stores of MLflow and Trackio still have what finished steps have left in them.

Their databases are asked directly, for both take long to import.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.core import addresses, databases, model_folder, settings
from pipeline.core.dependencies import read_lock
from pipeline.core.results import StepResult, damage

Row = tuple[str | None, ...]


def lost(result: StepResult, store: str) -> list[str]:
    """What is gone or changed of a finished step: files, its run in MLflow, versions in Trackio.

    Args:
        result: the step.
        store: the tracker that its outputs are in; see :attr:`pipeline.tracking.Tracker.store`.

    Raises:
        PipelineError: a database can't be read.
    """
    found = [*damage(result), *_lost_run(result), *_lost_versions(result, store)]
    if result.environment and not read_lock(result.environment):
        found.append(
            f"the list of its packages is missing: {settings.lock_file(result.environment)}"
        )
    return found


def _lost_run(result: StepResult) -> Iterator[str]:
    """A step's run that is gone from MLflow's local store."""
    file = settings.sqlite_path(settings.tracking_uri())
    if not result.mlflow_files or file is None:
        return  # it is elsewhere
    query = "SELECT 1 FROM runs WHERE run_uuid = ?"
    for (run,) in _absent(file, "runs", query, [(result.mlflow_run,)]):
        yield f"MLflow run {run} is gone from {file}"


def _lost_versions(result: StepResult, store: str) -> Iterator[str]:
    """Outputs whose files are here, and of which Trackio's local store knows nothing."""
    kind, project = store.partition(" ")[0], store.rpartition(" ")[2]
    if kind != "trackio":
        return
    file = settings.trackio_dir() / f"{project}.db"
    query = (
        "SELECT 1 FROM artifact_versions v JOIN artifacts a ON a.id = v.artifact_id "
        "WHERE a.name = ? AND v.version = ?"
    )
    stored = [output for output in result.outputs if output.get("stored")]
    wanted: list[Row] = [(one["name"], str(one["version"]).removeprefix("v")) for one in stored]
    for name, number in _absent(file, "artifacts", query, wanted):
        yield f"{name}:v{number} is gone from {file}"


def damaged_models() -> Iterator[str]:
    """What is wrong with the files of registered models that have an alias, on this machine."""
    file = settings.sqlite_path(settings.tracking_uri())
    if file is None:
        return  # they are elsewhere
    query = (
        "SELECT DISTINCT v.name, v.version, t.value, "
        "coalesce(l.artifact_location, v.storage_location, v.source) "
        "FROM registered_model_aliases a "
        "JOIN model_versions v ON v.name = a.name AND v.version = a.version "
        "JOIN model_version_tags t ON t.name = v.name AND t.version = v.version "
        "LEFT JOIN logged_models l ON v.source = 'models:/' || l.model_id "
        "WHERE t.key = 'model.digest'"
    )
    for name, version, wanted, address in databases.rows(file, query, table="logged_models"):
        folder = addresses.local_folder(address)
        if folder is None:
            continue
        try:
            if model_folder.digest(folder) != wanted:
                yield f"{name} version {version} has been changed on disk: {folder}"
        except OSError as error:
            yield f"{name} version {version} is missing its file {error.filename}"


def lost_files() -> Iterator[tuple[str, Path]]:
    """Every version in Trackio's store that lacks a file: ``name:version``, and where it was."""
    for project, name, version, manifest in _manifests():
        files = settings.trackio_dir() / "artifacts" / project / "blobs" / "sha256"
        for digest in digests(manifest):
            path = files / digest[:2] / digest
            if not path.is_file():
                yield f"{name}:v{version}", path


def stray_files() -> Iterator[Path]:
    """Every file in Trackio's store that no version has, as a killed run may have left it."""
    used = {(project, d) for project, *_, manifest in _manifests() for d in digests(manifest)}
    for path in settings.trackio_dir().glob("artifacts/*/blobs/sha256/*/*"):
        if (path.parents[3].name, path.name) not in used:
            yield path


def digests(manifest: str) -> set[str]:
    """The digests of a version's files."""
    return {entry["digest"] for entry in json.loads(manifest)}


def _manifests() -> Iterator[tuple[str, str, int, str]]:
    """Every version in Trackio's store: project, name, version and its list of files."""
    query = (
        "SELECT a.name, v.version, v.manifest FROM artifact_versions v "
        "JOIN artifacts a ON a.id = v.artifact_id"
    )
    for file in sorted(settings.trackio_dir().glob("*.db")):
        for name, version, manifest in databases.rows(file, query):
            yield file.stem, name, version, manifest


def _absent(file: Path, table: str, query: str, wanted: list[Row]) -> list[Row]:
    """The values for which a query finds no row; all, where the file or the table is not there."""
    if not wanted or not file.exists():
        return wanted
    with databases.reading(file) as store:
        databases.refuse_cut(file, store)
        if not databases.has_table(store, table):
            return wanted
        return [values for values in wanted if not store.execute(query, values).fetchone()]
