"""Cleans up after killed runs: their status in MLflow and their temporary files."""

from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from pipeline.core.results import RUN_ID_TAG
from pipeline.orchestration.execution import processes
from pipeline.tracking.mlflow.store import kill_run


def mark_dead() -> None:
    """Set killed runs to KILLED in MLflow, and remove the temporary files of their steps."""
    client = mlflow.MlflowClient()
    for marker, noted in processes.killed_runs():
        if folder := noted.get(processes.TEMPORARY):
            processes.remove_temporary(Path(folder))
        try:
            for run in _mlflow_runs(client, marker.id, noted.get(processes.MLFLOW_RUN)):
                kill_run(client, run)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):  # deleted by the user
                continue  # the server fails; the next start tries again
        marker.remove()


def _mlflow_runs(client: mlflow.MlflowClient, id: str, run: str | None) -> list[Run]:
    """The MLflow runs of a marker: the noted run, else all running ones with the pipeline's id."""
    if run:
        return [client.get_run(run)]
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`{RUN_ID_TAG}` = '{id}' and attributes.status = 'RUNNING'"
    return list(client.search_runs(experiments, query))
