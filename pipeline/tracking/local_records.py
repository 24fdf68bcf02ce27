"""Whether the local stores still have what a finished step has left in them.

Their databases are asked directly: a run in which nothing has to be done imports neither MLflow nor
Trackio.
"""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core import databases, settings
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


def _absent(file: Path, table: str, query: str, wanted: list[Row]) -> list[Row]:
    """The values for which a query finds no row; all, where the file or the table is not there."""
    if not wanted or not file.exists():
        return wanted
    there = "SELECT 1 FROM sqlite_master WHERE name = ?"
    with databases.reading(file) as store:
        databases.refuse_cut(file, store)
        if not store.execute(there, (table,)).fetchone():
            return wanted
        return [values for values in wanted if not store.execute(query, values).fetchone()]
