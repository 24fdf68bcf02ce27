"""Tidies up after runs that were killed: their state in MLflow and their temporary files."""

from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from pipeline.core.results import RUN_ID_TAG
from pipeline.orchestration.execution import processes
from pipeline.tracking.mlflow.store import kill_run


def mark_dead() -> None:
    """Tidy up after runs whose process was killed before it could do so itself.

    In MLflow they are KILLED; the temporary files of their steps are removed.
    """
    client = mlflow.MlflowClient()
    for marker, noted in processes.killed_runs():
        if folder := noted.get(processes.TEMPORARY):
            processes.remove_temporary(Path(folder))
        try:
            for run in _of_marker(client, marker.id, noted.get(processes.MLFLOW_RUN)):
                kill_run(client, run)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):  # deleted by its owner
                continue  # the server fails; the next start tries again
        marker.remove()


def _of_marker(client: mlflow.MlflowClient, id: str, run: str | None) -> list[Run]:
    """A marker's run; one that was killed before it could note it is found by the pipeline's."""
    if run:
        return [client.get_run(run)]
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    known = f"tags.`{RUN_ID_TAG}` = '{id}' and attributes.status = 'RUNNING'"
    return list(client.search_runs(experiments, known))
