"""Pipeline runs in MLflow's store, such as those of colleagues.

:class:`DatabaseRuns` reads a database file. It does not import MLflow, which is slow.
"""

import json
import math
import sys
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pipeline.core import databases
from pipeline.core.data.addresses import local_folder
from pipeline.core.errors import PipelineError
from pipeline.core.metrics import lower_is_better
from pipeline.core.results import RUN_ID_TAG, SUMMARY, TRACKER_TAG
from pipeline.core.text import say
from pipeline.history.records import RunRecord, parse_summary

COMMIT_TAG = "mlflow.source.git.commit"


def parse_config(text: str) -> dict[str, Any]:
    """Parse a recorded configuration.

    Raises:
        ValueError, yaml.YAMLError: The text is not a configuration.
    """
    config = yaml.safe_load(text) or {}
    if not isinstance(config, dict) or not isinstance(config.get("main", {}), dict):
        raise ValueError("no configuration")
    return config


@dataclass(frozen=True)
class StoredRun:
    """A pipeline's run in MLflow's store.

    Attributes:
        id: MLflow's id of the run.
        status: MLflow's word for it, such as ``FINISHED``.
        started: milliseconds since 1970.
        artifacts: the address of its artifacts.
        tags, metrics: its tags, and the last value of each metric.
    """

    id: str
    status: str
    started: int
    artifacts: str
    tags: dict[str, str]
    metrics: dict[str, float]

    @property
    def pipeline_run(self) -> str:
        """The id that main.py prints."""
        return self.tags[RUN_ID_TAG]


class StoredRuns(ABC):
    """Read-only access to pipeline runs in MLflow's store, without the runs of their steps."""

    @abstractmethod
    def experiments(self) -> set[str]:
        """The names of the experiments."""

    @abstractmethod
    def search(
        self, experiment: str | None = None, metric: str | None = None, prefix: str = ""
    ) -> Iterator[StoredRun]:
        """The pipeline runs of an experiment or of all, the newest first.

        Args:
            experiment: the experiment's name.
            metric: the runs with the best value of this metric come first, those without it last.
            prefix: only runs whose id begins so: digits, ``a`` to ``f`` and dashes.
        """

    @abstractmethod
    def files(self, run: StoredRun) -> set[str]:
        """The names of a run's artifact files."""

    @abstractmethod
    def text(self, run: StoredRun, name: str) -> str:
        """The text of an artifact file."""

    def read(self, run: StoredRun) -> RunRecord:
        """Read a run's record, or build it from the store if no ``summary.json`` is usable.

        Raises:
            PipelineError: MLflow does not answer.
        """
        files = self.files(run)
        try:
            if SUMMARY in files:
                return parse_summary(self.text(run, SUMMARY), f"MLflow run {run.id}, {SUMMARY}")
            config = parse_config(self.text(run, "config.yaml") if "config.yaml" in files else "")
        except (PipelineError, OSError, ValueError, yaml.YAMLError) as error:
            problem = f"the record of MLflow run {run.id} is damaged and counts as absent"
            say(f"warning: {problem}: {error}".replace("\n", "; "), file=sys.stderr)
            config = {}
        main = config.get("main", {})
        return RunRecord(
            id=run.pipeline_run,
            status=run.status.lower(),
            started=datetime.fromtimestamp(run.started / 1000, UTC),
            developer=run.tags.get("developer", ""),
            project=main.get("project_name", ""),
            experiment=main.get("experiment_name", ""),
            tracker=run.tags[TRACKER_TAG],
            commit=run.tags.get(COMMIT_TAG),
            dirty={"true": True, "false": False}.get(run.tags.get("git.dirty", "")),
            config=config,
            metrics=run.metrics,
            steps={},
            mlflow_run=run.id,
        )


class DatabaseRuns(StoredRuns):
    """The pipeline runs in the SQLite file of MLflow's store, with artifacts in local folders."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def experiments(self) -> set[str]:
        """The names of the experiments."""
        query = "SELECT name FROM experiments WHERE lifecycle_stage = 'active'"
        return {name for (name,) in databases.rows(self._file, query, table="experiments")}

    def search(
        self, experiment: str | None = None, metric: str | None = None, prefix: str = ""
    ) -> Iterator[StoredRun]:
        """See :meth:`StoredRuns.search`."""
        runs = [run for run in self._runs(experiment) if run.pipeline_run.startswith(prefix)]
        if metric is None:
            yield from sorted(runs, key=lambda run: (-run.started, run.id))
            return
        sign = 1 if lower_is_better(metric) else -1

        def rank(run: StoredRun) -> tuple[bool, bool, float, int, str]:
            value = run.metrics.get(metric)
            is_nan = value is not None and math.isnan(value)
            number = 0.0 if value is None or is_nan else sign * value
            return value is None, is_nan, number, run.started, run.id

        yield from sorted(runs, key=rank)

    def _runs(self, experiment: str | None) -> list[StoredRun]:
        query = (
            "SELECT r.run_uuid, r.status, r.start_time, r.artifact_uri, "
            "(SELECT json_group_object(key, value) FROM tags WHERE run_uuid = r.run_uuid) "
            "FROM runs r JOIN experiments e USING (experiment_id) "
            "JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = ? AND t.value != '' "
            "WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active' "
            "AND e.name = coalesce(?, e.name)"
        )
        rows = databases.rows(self._file, query, [TRACKER_TAG, experiment], table="runs")
        metrics: dict[str, dict[str, float]] = defaultdict(dict)
        query = (
            "SELECT m.run_uuid, m.key, m.value, m.is_nan FROM latest_metrics m "
            "JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = ?"
        )
        for id, key, value, is_nan in databases.rows(
            self._file, query, [TRACKER_TAG], table="latest_metrics"
        ):
            metrics[id][key] = math.nan if is_nan else value
        return [
            StoredRun(id, status, started, artifacts, json.loads(tags), metrics[id])
            for id, status, started, artifacts, tags in rows
        ]

    def files(self, run: StoredRun) -> set[str]:
        """The names of a run's artifact files."""
        folder = _folder(run)
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def text(self, run: StoredRun, name: str) -> str:
        """The text of an artifact file."""
        return (_folder(run) / name).read_text(encoding="utf-8")


def _folder(run: StoredRun) -> Path:
    folder = local_folder(run.artifacts)
    if folder is None:
        raise ValueError(f"the artifacts of MLflow run {run.id} are not in a folder")
    return folder
