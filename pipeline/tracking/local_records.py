"""Checks that the local stores of MLflow and Trackio still hold the results of finished steps.

It reads their databases directly, because both libraries are slow to import.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core import databases, model_folder, settings
from pipeline.core.data import addresses
from pipeline.core.results import StepResult, damage
from pipeline.core.tracing.dependencies import read_lock

Row = tuple[str | None, ...]


def problems(result: StepResult, store: str) -> list[str]:
    """Problems with a finished step's results: files, MLflow run, Trackio versions and packages.

    Args:
        result: the step's result.
        store: the tracker with its outputs; see :attr:`pipeline.tracking.Tracker.store`.

    Raises:
        PipelineError: a database can't be read.
    """
    return [*damage(result), *(problem for _, problem in lost([result], store))]


def lost(results: Sequence[StepResult], store: str) -> Iterator[tuple[StepResult, str]]:
    """What the databases and the lists of packages no longer have of finished steps' results.

    Each database is opened once, however many results there are.

    Args:
        results: the steps' results.
        store: the tracker with their outputs.

    Raises:
        PipelineError: a database can't be read.
    """
    yield from _lost_runs(results)
    yield from _lost_versions(results, store)
    used = {result.environment for result in results if result.environment}
    missing = {digest for digest in used if not read_lock(digest)}
    for result in results:
        if result.environment in missing:
            file = settings.lock_file(result.environment)
            yield result, f"the list of its packages is missing: {file}"


def _lost_runs(results: Sequence[StepResult]) -> Iterator[tuple[StepResult, str]]:
    """The results whose runs are missing from MLflow's local store."""
    file = settings.sqlite_path(settings.tracking_uri())
    if file is None:
        return  # the runs are on a server
    query = "SELECT 1 FROM runs WHERE run_uuid = ?"
    keys: list[tuple[StepResult, Row]] = [
        (result, (result.mlflow_run,)) for result in results if result.mlflow_files
    ]
    for result, (run,) in _absent(file, "runs", query, keys):
        yield result, f"MLflow run {run} is gone from {file}"


def _lost_versions(results: Sequence[StepResult], store: str) -> Iterator[tuple[StepResult, str]]:
    """The local outputs that are missing from Trackio's database."""
    kind, project = store.partition(" ")[0], store.rpartition(" ")[2]
    if kind != "trackio":
        return
    file = settings.trackio_dir() / f"{project}.db"
    query = (
        "SELECT 1 FROM artifact_versions v JOIN artifacts a ON a.id = v.artifact_id "
        "WHERE a.name = ? AND v.version = ?"
    )
    keys: list[tuple[StepResult, Row]] = [
        (result, (output["name"], str(output["version"]).removeprefix("v")))
        for result in results
        for output in result.outputs
        if output.get("stored")
    ]
    for result, (name, number) in _absent(file, "artifacts", query, keys):
        yield result, f"{name}:v{number} is gone from {file}"


def damaged_models() -> Iterator[str]:
    """Problems with the local files of registered model versions that have an alias."""
    file = settings.sqlite_path(settings.tracking_uri())
    if file is None:
        return  # the registry is on a server
    query = (
        "SELECT DISTINCT v.name, v.version, t.value, "
        "coalesce(l.artifact_location, v.storage_location, v.source) "
        "FROM registered_model_aliases a "
        "JOIN model_versions v ON v.name = a.name AND v.version = a.version "
        "JOIN model_version_tags t ON t.name = v.name AND t.version = v.version "
        "LEFT JOIN logged_models l ON v.source = 'models:/' || l.model_id "
        "WHERE t.key = 'model.digest'"
    )
    for name, version, digest, address in databases.rows(file, query, table="logged_models"):
        folder = addresses.local_folder(address)
        if folder is None:
            continue
        try:
            if model_folder.digest(folder) != digest:
                yield f"{name} version {version} has been changed on disk: {folder}"
        except OSError as error:
            yield f"{name} version {version} is missing its file {error.filename}"


def missing_files() -> Iterator[tuple[str, Path]]:
    """Each missing file of Trackio's store: its ``name:version`` and its path."""
    for project, name, version, manifest in _manifests():
        files = settings.trackio_dir() / "artifacts" / project / "blobs" / "sha256"
        for digest in digests(manifest):
            path = files / digest[:2] / digest
            if not path.is_file():
                yield f"{name}:v{version}", path


def stray_files() -> Iterator[Path]:
    """Each file in Trackio's store that belongs to no version, left by a killed run."""
    used = {(project, d) for project, *_, manifest in _manifests() for d in digests(manifest)}
    for path in settings.trackio_dir().glob("artifacts/*/blobs/sha256/*/*"):
        if (path.parents[3].name, path.name) not in used:
            yield path


def digests(manifest: str) -> set[str]:
    """The digests in a version's manifest."""
    return {entry["digest"] for entry in json.loads(manifest)}


def _manifests() -> Iterator[tuple[str, str, int, str]]:
    """Every version in Trackio's store: project, name, version and manifest."""
    query = (
        "SELECT a.name, v.version, v.manifest FROM artifact_versions v "
        "JOIN artifacts a ON a.id = v.artifact_id"
    )
    for file in sorted(settings.trackio_dir().glob("*.db")):
        for name, version, manifest in databases.rows(file, query):
            yield file.stem, name, version, manifest


def _absent(
    file: Path, table: str, query: str, keys: list[tuple[StepResult, Row]]
) -> list[tuple[StepResult, Row]]:
    """The keys for which a query finds no row; all of them if the file or the table is missing."""
    if not keys or not file.exists():
        return keys
    with databases.reading(file) as store:
        databases.refuse_cut(file, store)
        if not databases.has_table(store, table):
            return keys
        return [(result, key) for result, key in keys if not store.execute(query, key).fetchone()]
