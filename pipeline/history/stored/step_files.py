"""Reads a step's package lock, its logged tables, the last report and its measurements.

They are read from local files, else from the step's MLflow run.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.cache.finished import Cache
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import UNUSABLE, file_digest, parse_record
from pipeline.core.results import LOCK, MEASUREMENTS, TABLES, StepResult
from pipeline.core.text import say
from pipeline.core.tracing.dependencies import read_lock
from pipeline.history.records import RunRecord


def lock(step: StepResult, state: Path | None = None) -> list[str]:
    """The lines of the lock of a step's environment; empty if none was recorded.

    Args:
        step: the step's result.
        state: the state folder of the run; default: the current one.

    Raises:
        PipelineError: The lock is neither in the state folder nor in MLflow.
    """
    if step.environment is None:
        return []
    path = settings.lock_file(step.environment, state)
    if lines := read_lock(step.environment, state):
        return lines
    files = _of_mlflow(step, LOCK)
    if LOCK not in files:
        raise PipelineError(
            f"the packages of {step.step} in run {step.pipeline_run} are recorded neither in "
            f"{path} nor in its MLflow run {step.mlflow_run}",
            "set MLFLOW_TRACKING_URI to the server that the run was recorded on",
        )
    return files[LOCK].splitlines()


def tables(step: StepResult, folder: Path | None) -> Mapping[str, str]:
    """The tables that a step logged, as CSV, by name.

    Args:
        step: the step's result.
        folder: the folder of the run that executed it; None reads from MLflow.
    """
    names = {name: f"{step.step}.{name}.csv" for name in step.tables}
    if folder and all((folder / file).is_file() for file in names.values()):
        files = {file: (folder / file).read_text(encoding="utf-8") for file in names.values()}
    else:
        files = _of_mlflow(step, TABLES)
    return {name: files[file] for name, file in names.items() if file in files}


def _of_mlflow(step: StepResult, path: str) -> dict[str, str]:
    """Texts by file name of an artifact file or folder in a step's MLflow run."""
    from pipeline.history.stored.server import ServerRuns
    from pipeline.tracking.mlflow import store as mlflow_store

    if step.mlflow_run is None:
        return {}
    client = ServerRuns().client
    with mlflow_store.readable_errors(), tempfile.TemporaryDirectory() as folder:
        if path not in {file.path for file in client.list_artifacts(step.mlflow_run)}:
            return {}
        downloaded = Path(client.download_artifacts(step.mlflow_run, path, folder))
        files = [downloaded] if downloaded.is_file() else sorted(downloaded.iterdir())
        return {file.name: file.read_text(encoding="utf-8") for file in files}


STEP = "5-Report"


def measurements(run: RunRecord) -> dict[str, Any] | None:
    """A run's metric intervals and curves, which its report wrote; None without a report.

    A damaged or unreachable file counts as absent, with a warning.
    """
    step = run.steps.get(STEP)
    if step is None or step.mlflow_run is None:
        return None
    file = settings.state_dir() / "runs" / (step.pipeline_run or "") / MEASUREMENTS
    try:
        if file.is_file():
            text = file.read_text(encoding="utf-8")
        else:
            text = _of_mlflow(step, MEASUREMENTS).get(MEASUREMENTS, "")
        return parse_record(text, "intervals", "curves", "errors") if text else None
    except (PipelineError, OSError, *UNUSABLE) as error:
        say(f"warning: {MEASUREMENTS} of run {run.id} counts as absent: {error}", file=sys.stderr)
        return None


def last_report() -> Path:
    """The report of the last run that wrote or reused one.

    It is read from the run's folder, else from the step's MLflow run.

    Raises:
        PipelineError: There is no report yet, or its file is gone.
    """
    result = Cache(settings.state_dir()).latest(STEP)
    if result is None:
        raise PipelineError(
            f"no run in {settings.state_dir()} has written a report",
            "make run comes first; with main.steps set, it has to name the report",
        )
    output = result.outputs[0]
    for path in (settings.state_dir() / "runs").glob(f"**/{output['name']}"):
        if path.is_file() and file_digest(path) == output["digest"]:
            return path
    return _fetched(result, output["name"], output["digest"])


def _fetched(result: StepResult, name: str, digest: str) -> Path:
    """Download the report from its MLflow run, unless it was downloaded before."""
    folder = settings.state_dir() / "reports" / digest[:12]
    path = folder / name
    if not path.is_file() or file_digest(path) != digest:
        import mlflow
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        mlflow.set_tracking_uri(settings.tracking_uri())
        try:
            download_artifacts(run_id=result.mlflow_run, artifact_path=name, dst_path=str(folder))
        except (MlflowException, OSError) as error:
            raise PipelineError(
                f"{name} of run {result.pipeline_run} is gone from MLflow ({error})",
                "write it again: python main.py main.steps=[report] main.force=true",
            ) from error
        if file_digest(path) != digest:
            raise PipelineError(
                f"{name} of run {result.pipeline_run} has been changed in MLflow",
                "write it again: python main.py main.steps=[report] main.force=true",
            )
    return path
