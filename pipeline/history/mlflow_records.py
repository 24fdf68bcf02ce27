"""The runs of the pipeline as MLflow has them: our own, and those of colleagues on its server."""

import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from pipeline.core import variables
from pipeline.core.errors import PipelineError
from pipeline.core.results import RUN_ID_TAG, SUMMARY, TRACKER_TAG
from pipeline.core.text import say
from pipeline.history.records import RunRecord, record
from pipeline.tracking.mlflow import store as mlflow_store

PAGE = 200  # runs asked for at once


def parse_config(text: str) -> dict[str, Any]:
    """A configuration as it was recorded.

    Raises:
        ValueError, yaml.YAMLError: it is none.
    """
    config = yaml.safe_load(text) or {}
    if not isinstance(config, dict) or not isinstance(config.get("main", {}), dict):
        raise ValueError("no configuration")
    return config


class MlflowHistory:
    """Looks runs up in MLflow's store, and changes nothing there."""

    def __init__(self) -> None:
        limits = {"MAX_RETRIES": "3", "TIMEOUT": "30"}  # or an unreachable server takes minutes
        variables.set_defaults({f"MLFLOW_HTTP_REQUEST_{key}": limits[key] for key in limits})
        self.client = mlflow_store.client()

    def experiments(self) -> dict[str, str]:
        """The id of each experiment, by name."""
        with mlflow_store.readable_errors():
            found = self.client.search_experiments()
        return {e.name: e.experiment_id for e in found}

    def search(
        self, experiment: str | None, order: list[str], condition: str = ""
    ) -> Iterator[Run]:
        """The MLflow runs of whole pipelines, as they are in MLflow, page by page."""
        experiments = self.experiments()
        wanted = [id for name, id in experiments.items() if experiment in (None, name)]
        conditions = " and ".join(filter(None, [f"tags.`{TRACKER_TAG}` != ''", condition]))
        token = None
        while wanted:
            with mlflow_store.readable_errors():
                page = self.client.search_runs(
                    wanted, conditions, order_by=order, max_results=PAGE, page_token=token
                )
            yield from page
            token = page.token
            if not token:
                return

    def read(self, run: Run) -> RunRecord:
        """A run's record; of one that has left none, what MLflow knows of it.

        Raises:
            PipelineError: the record is damaged, or MLflow does not answer.
        """
        id = run.info.run_id
        with mlflow_store.readable_errors():
            files = {file.path for file in self.client.list_artifacts(id)}
            try:
                if SUMMARY in files:
                    return record(self._text(id, SUMMARY), f"MLflow run {id}, {SUMMARY}")
                text = self._text(id, "config.yaml") if "config.yaml" in files else ""
                config = parse_config(text)
            except (PipelineError, OSError, ValueError, yaml.YAMLError) as error:
                what = f"the record of MLflow run {id} is damaged and counts as absent"
                say(f"warning: {what}: {error}".replace("\n", "; "), file=sys.stderr)
                config = {}
        tags, main = run.data.tags, config.get("main", {})
        return RunRecord(
            id=tags[RUN_ID_TAG],
            status=run.info.status.lower(),
            started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
            developer=tags.get("developer", ""),
            project=main.get("project_name", ""),
            experiment=main.get("experiment_name", ""),
            tracker=tags[TRACKER_TAG],
            commit=tags.get(MLFLOW_GIT_COMMIT),
            dirty={"true": True, "false": False}.get(tags.get("git.dirty", "")),
            config=config,
            metrics=run.data.metrics,
            steps={},
            mlflow_run=id,
        )

    def _text(self, run_id: str, name: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = self.client.download_artifacts(run_id, name, folder)
            return Path(path).read_text(encoding="utf-8")
