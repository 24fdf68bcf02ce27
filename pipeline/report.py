"""The last report, as a file that a browser can open."""

from pathlib import Path

from pipeline import settings
from pipeline.cache import Cache, StepResult
from pipeline.digests import file_digest
from pipeline.errors import PipelineError

STEP = "5-Report"


def last_report() -> Path:
    """The report that a run has written or handed on last.

    It is in that run's folder; if the folder is gone or was never here, the file comes from the
    step's MLflow run.

    Raises:
        PipelineError: there is none yet, or its file is nowhere to be found.
    """
    result = Cache(settings.state_dir()).latest(STEP)
    if result is None:
        raise PipelineError(
            f"no run in {settings.state_dir()} has written a report",
            "make run comes first; with main.steps set, it has to name the report",
        )
    output = result.outputs[0]
    for path in (settings.state_dir() / "runs").glob(f"**/{output['name']}"):
        if file_digest(path) == output["digest"]:
            return path
    return _fetched(result, output["name"], output["digest"])


def _fetched(result: StepResult, name: str, digest: str) -> Path:
    """The report from its MLflow run, kept for the next time."""
    folder = settings.state_dir() / "reports" / digest[:12]
    if not (folder / name).is_file():
        import mlflow

        mlflow.set_tracking_uri(settings.tracking_uri())
        try:
            mlflow.artifacts.download_artifacts(
                run_id=result.mlflow_run, artifact_path=name, dst_path=str(folder)
            )
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise PipelineError(
                f"{name} of run {result.pipeline_run} is gone from MLflow ({error})",
                "write it again: python main.py main.steps=[report] main.force=true",
            ) from error
    return folder / name
