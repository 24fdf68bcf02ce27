"""Tidies up after runs that were killed: their state in MLflow and their temporary files."""

import shutil

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from pipeline.core.results import RUN_ID_TAG
from pipeline.orchestration import processes
from pipeline.tracking.mlflow_store import kill_run


def mark_dead() -> None:
    """Tidy up after runs whose process was killed before it could do so itself.

    In MLflow they are KILLED; the temporary files of their steps are removed.
    """
    client = mlflow.MlflowClient()
    for marker, told in processes.dead():
        if folder := told.get(processes.TEMPORARY):
            shutil.rmtree(folder, ignore_errors=True)
        try:
            for run in _of_marker(client, marker.stem, told.get(processes.MLFLOW_RUN)):
                kill_run(client, run)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):  # deleted by its owner
                continue  # the server fails; the next start tries again
        marker.unlink(missing_ok=True)  # another start may have been faster


def _of_marker(client: mlflow.MlflowClient, id: str, run: str | None) -> list[Run]:
    """A marker's run; one that was killed before it could note it is found by the pipeline's."""
    if run:
        return [client.get_run(run)]
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    known = f"tags.`{RUN_ID_TAG}` = '{id}' and attributes.status = 'RUNNING'"
    return list(client.search_runs(experiments, known))
