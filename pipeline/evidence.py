"""What a step left beside its artifacts: the packages it ran with, and the tables it logged.

Both are with its MLflow run, where a colleague finds them too.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline import settings
from pipeline.cache import StepResult
from pipeline.errors import PipelineError

LOCK, TABLES = "environment.lock.txt", "tables"  # artifacts of a step's MLflow run


def lock(step: StepResult, state: Path | None = None) -> list[str]:
    """The lines of the lock of a step's environment.

    Args:
        step: the step.
        state: the state folder it was run in, if it is not ours.

    Raises:
        PipelineError: it is neither there nor in MLflow.
    """
    if step.environment is None:
        return []
    path = settings.lock_file(step.environment, state)
    if path.is_file():
        return path.read_text(encoding="utf-8").splitlines()
    found = _of_mlflow(step, LOCK)
    if LOCK not in found:
        raise PipelineError(
            f"the packages that {step.step} of run {step.pipeline_run} ran with are not recorded "
            f"in {path}, nor with its MLflow run {step.mlflow_run}",
            "set MLFLOW_TRACKING_URI to the server that the run was recorded on",
        )
    return found[LOCK].splitlines()


def tables(step: StepResult, folder: Path | None) -> Mapping[str, str]:
    """The tables that a step logged, as CSV, by name.

    Args:
        step: the step.
        folder: that of the run that ran it, if it is here; otherwise they come from MLflow.
    """
    names = {name: f"{step.step}.{name}.csv" for name in step.tables}
    if folder and all((folder / file).is_file() for file in names.values()):
        files = {file: (folder / file).read_text(encoding="utf-8") for file in names.values()}
    else:
        files = _of_mlflow(step, TABLES)
    return {name: files[file] for name, file in names.items() if file in files}


def _of_mlflow(step: StepResult, path: str) -> dict[str, str]:
    """The text of a file, or of each file in a folder, of a step's MLflow run."""
    from pipeline import mlflow_store
    from pipeline.mlflow_history import MlflowHistory

    client = MlflowHistory().client
    with mlflow_store.told(), tempfile.TemporaryDirectory() as folder:
        if path not in {file.path for file in client.list_artifacts(step.mlflow_run)}:
            return {}
        place = Path(client.download_artifacts(step.mlflow_run, path, folder))
        files = [place] if place.is_file() else sorted(place.iterdir())
        return {file.name: file.read_text(encoding="utf-8") for file in files}
