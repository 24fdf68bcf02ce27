"""Reads pipeline runs from the MLflow store: local ones and those of colleagues."""

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
from pipeline.history.records import RunRecord, parse_summary
from pipeline.tracking.mlflow import store as mlflow_store

PAGE = 200  # runs per request


def parse_config(text: str) -> dict[str, Any]:
    """Parse a recorded configuration.

    Raises:
        ValueError, yaml.YAMLError: The text is not a configuration.
    """
    config = yaml.safe_load(text) or {}
    if not isinstance(config, dict) or not isinstance(config.get("main", {}), dict):
        raise ValueError("no configuration")
    return config


class MlflowHistory:
    """Read-only access to pipeline runs in MLflow's store."""

    def __init__(self) -> None:
        # Without these limits an unreachable server takes minutes to fail.
        limits = {"MAX_RETRIES": "3", "TIMEOUT": "30"}
        variables.set_defaults({f"MLFLOW_HTTP_REQUEST_{key}": limits[key] for key in limits})
        self.client = mlflow_store.client()

    def experiments(self) -> dict[str, str]:
        """The id of each experiment, by name."""
        with mlflow_store.readable_errors():
            experiments = self.client.search_experiments()
        return {e.name: e.experiment_id for e in experiments}

    def search(
        self, experiment: str | None, order: list[str], condition: str = ""
    ) -> Iterator[Run]:
        """The MLflow runs of pipelines, without those of their steps, page by page."""
        experiments = self.experiments()
        ids = [id for name, id in experiments.items() if experiment in (None, name)]
        conditions = " and ".join(filter(None, [f"tags.`{TRACKER_TAG}` != ''", condition]))
        token = None
        while ids:
            with mlflow_store.readable_errors():
                page = self.client.search_runs(
                    ids, conditions, order_by=order, max_results=PAGE, page_token=token
                )
            yield from page
            token = page.token
            if not token:
                return

    def read(self, run: Run) -> RunRecord:
        """Read a run's record, or build it from MLflow's data if no ``summary.json`` is usable.

        Raises:
            PipelineError: MLflow does not answer.
        """
        id = run.info.run_id
        with mlflow_store.readable_errors():
            files = {file.path for file in self.client.list_artifacts(id)}
            try:
                if SUMMARY in files:
                    return parse_summary(self._text(id, SUMMARY), f"MLflow run {id}, {SUMMARY}")
                text = self._text(id, "config.yaml") if "config.yaml" in files else ""
                config = parse_config(text)
            except (PipelineError, OSError, ValueError, yaml.YAMLError) as error:
                problem = f"the record of MLflow run {id} is damaged and counts as absent"
                say(f"warning: {problem}: {error}".replace("\n", "; "), file=sys.stderr)
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
