"""Whether the local stores still have what a finished step has left in them.

Their databases are asked directly: a run in which nothing has to be done imports neither MLflow nor
Trackio.
"""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core import databases, settings
from pipeline.core.evidence import read_lock
from pipeline.core.results import StepResult, damage


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
    if not _has(file, "runs", query, result.mlflow_run):
        yield f"MLflow run {result.mlflow_run} is gone from {file}"


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
    for output in result.outputs:
        number = str(output["version"]).removeprefix("v")
        if output.get("stored") and not _has(file, "artifacts", query, output["name"], number):
            yield f"{output['name']}:{output['version']} is gone from {file}"


def _has(file: Path, table: str, query: str, *values: str | None) -> bool:
    """Whether a query finds a row; not, where the file or the table is not there."""
    if not file.exists():
        return False
    databases.check(file)
    there = "SELECT 1 FROM sqlite_master WHERE name = ?"
    with databases.reading(file) as store:
        known = store.execute(there, (table,)).fetchone()
        return bool(known and store.execute(query, values).fetchone())
