"""Reads pipeline runs from MLflow's server, or from another store that needs MLflow's client."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Run

from pipeline.core import variables
from pipeline.core.metrics import lower_is_better
from pipeline.core.results import RUN_ID_TAG, TRACKER_TAG
from pipeline.history.stored.database import StoredRun, StoredRuns
from pipeline.tracking.mlflow import store as mlflow_store

PAGE = 200  # runs per request


class ServerRuns(StoredRuns):
    """The pipeline runs in MLflow's store, through its client."""

    def __init__(self) -> None:
        # Without these limits an unreachable server takes minutes to fail.
        limits = {"MAX_RETRIES": "3", "TIMEOUT": "30"}
        variables.set_defaults({f"MLFLOW_HTTP_REQUEST_{key}": limits[key] for key in limits})
        self.client = mlflow_store.client()

    def experiments(self) -> set[str]:
        """The names of the experiments."""
        return {*self._experiments()}

    def _experiments(self) -> dict[str, str]:
        """The id of each experiment, by name."""
        with mlflow_store.readable_errors():
            experiments = self.client.search_experiments()
        return {e.name: e.experiment_id for e in experiments}

    def search(
        self, experiment: str | None = None, metric: str | None = None, prefix: str = ""
    ) -> Iterator[StoredRun]:
        """See :meth:`StoredRuns.search`; runs are read page by page."""
        ids = [id for name, id in self._experiments().items() if experiment in (None, name)]
        conditions = f"tags.`{TRACKER_TAG}` != ''"
        if prefix:
            conditions += f" and tags.`{RUN_ID_TAG}` LIKE '{prefix}%'"
        order = ["attributes.start_time DESC"]
        if metric:
            direction = "ASC" if lower_is_better(metric) else "DESC"
            order = [f"metrics.`{metric}` {direction}", "attributes.start_time ASC"]
        token = None
        while ids:
            with mlflow_store.readable_errors():
                page = self.client.search_runs(
                    ids, conditions, order_by=order, max_results=PAGE, page_token=token
                )
            yield from map(_stored, page)
            token = page.token
            if not token:
                return

    def files(self, run: StoredRun) -> set[str]:
        """The names of a run's artifact files."""
        with mlflow_store.readable_errors():
            return {file.path for file in self.client.list_artifacts(run.id)}

    def text(self, run: StoredRun, name: str) -> str:
        """The text of an artifact file."""
        with mlflow_store.readable_errors(), tempfile.TemporaryDirectory() as folder:
            path = self.client.download_artifacts(run.id, name, folder)
            return Path(path).read_text(encoding="utf-8")


def _stored(run: Run) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun(
        info.run_id, info.status, info.start_time, info.artifact_uri or "", data.tags, data.metrics
    )
