"""Finds runs made here, and runs of colleagues on the same MLflow server."""

import heapq
import math
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from itertools import islice

from pipeline.core import databases, settings
from pipeline.core.data.addresses import local_folder
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.metrics import lower_is_better
from pipeline.core.results import RUN_ID_TAG, SUMMARY
from pipeline.core.text import say
from pipeline.history.records import RunRecord, parse_summary, read_text
from pipeline.history.stored.database import DatabaseRuns, StoredRun, StoredRuns


class History:
    """The runs in this state folder and in its MLflow store.

    Attributes:
        local: the runs made on this machine, by id, newest first.
    """

    def __init__(self) -> None:
        runs = []
        for path in (settings.state_dir() / "runs").glob(f"**/{SUMMARY}"):
            try:
                runs.append(parse_summary(read_text(path), path, path.parent))
            except PipelineError as error:
                say(f"warning: {error}".replace("\n", "; "), file=sys.stderr)
        runs.sort(key=lambda run: (run.started, run.id), reverse=True)
        self.local = {run.id: run for run in runs}

    @cached_property
    def _store(self) -> StoredRuns | None:
        """The runs in MLflow's store; None if all of them are local."""
        file = settings.sqlite_path(settings.tracking_uri())
        if file:
            query = (
                "SELECT t.value, r.artifact_uri FROM tags t JOIN runs r USING (run_uuid) "
                "WHERE t.key = ?"
            )
            rows = databases.rows(file, query, [RUN_ID_TAG], table="tags")
            addresses = {address for id, address in rows if id not in self.local}
            if all(map(local_folder, addresses)):
                return DatabaseRuns(file) if addresses else None
        from pipeline.history.stored.server import ServerRuns  # imports MLflow, which is slow

        return ServerRuns()

    def find(self, name: str) -> RunRecord:
        """Find a run by its id or the beginning of its id; ``last`` is the newest local run.

        Raises:
            PipelineError: No run or several runs match, or the record is damaged.
        """
        if name == "last":
            newest = next(iter(self.local.values()), None) or next(self.runs(), None)
            if newest is None:
                raise PipelineError("there is no run yet", "make one: python main.py")
            return newest
        if name in self.local:
            return self.local[name]
        remote_runs = self._remote_by_prefix(name)
        ids = {id for id in self.local if id.startswith(name) and name} | remote_runs.keys()
        ids = {name} if name in ids else ids
        if not ids:
            raise self._unknown_run(name)
        if len(ids) > 1:
            first_ids = ", ".join(sorted(ids)[:5]) + (", ..." if len(ids) > 5 else "")
            raise PipelineError(
                f"{len(ids)} runs begin with {name!r}: {first_ids}", "give more of the run's id"
            )
        id = ids.pop()
        if id in self.local or self._store is None:
            return self.local[id]
        return self._store.read(remote_runs[id])

    def runs(self, experiment: str | None = None) -> Iterator[RunRecord]:
        """All runs, newest first; remote records are read lazily.

        Raises:
            PipelineError: The experiment does not exist, or MLflow's server does not answer.
        """
        remote = self._remote(experiment)
        local = self._local(experiment)
        return heapq.merge(local, remote, key=lambda run: run.started, reverse=True)

    def best(self, metric: str, count: int, experiment: str | None = None) -> list[RunRecord]:
        """The finished runs with the best metric, best first; one run for each trained model.

        Only runs with the test data of the newest run are comparable and returned.

        Raises:
            PipelineError: No finished run has the metric.
        """
        sign = 1 if lower_is_better(metric) else -1

        def rank(run: RunRecord) -> tuple[float, datetime]:
            return sign * run.metrics[metric], run.started

        local = sorted(
            (run for run in self._local(experiment) if _has_metric(run, metric)), key=rank
        )
        remote = self._remote(experiment, metric)
        measured = heapq.merge(local, remote, key=rank)
        newest = next((run for run in self.runs(experiment) if _has_metric(run, metric)), None)
        comparable = (run for run in measured if newest and run.test_digest == newest.test_digest)
        if best := [*islice(_one_per_result(comparable), count)]:
            return best
        metrics = [run.metrics for run in self._local(experiment)]
        if self._store:
            metrics += [run.metrics for run in self._store.search(experiment)]
        metric_names = {name for values in metrics for name in values}
        raise PipelineError(
            f"no finished run has the metric {metric!r}{did_you_mean(metric, metric_names)}",
            f"available metrics: {', '.join(sorted(metric_names)) or 'none'}",
        )

    def count_on_other_data(
        self, metric: str, test: str | None, experiment: str | None = None
    ) -> int:
        """Number of local runs that measured a metric on other test data."""
        return sum(
            _has_metric(run, metric) and run.test_digest != test for run in self._local(experiment)
        )

    def _local(self, experiment: str | None) -> list[RunRecord]:
        return [run for run in self.local.values() if experiment in (None, run.experiment)]

    def _remote_by_prefix(self, name: str) -> dict[str, StoredRun]:
        """Remote runs whose id begins with ``name``; empty if no id can begin so."""
        if self._store is None or not re.fullmatch(r"[0-9a-f-]+", name):
            return {}
        return {run.pipeline_run: run for run in self._store.search(prefix=name)}

    def _remote(self, experiment: str | None, metric: str | None = None) -> Iterator[RunRecord]:
        """Runs that are in MLflow but not on this machine."""
        self._check_experiment(experiment)
        if self._store is None:
            return
        for run in self._store.search(experiment, metric):
            if metric and metric not in run.metrics:
                return  # runs without the metric are last
            if run.pipeline_run in self.local:
                continue
            record = self._store.read(run)
            if metric is None or _has_metric(record, metric):
                yield record

    def _check_experiment(self, experiment: str | None) -> None:
        experiments = {run.experiment for run in self.local.values()}
        if experiment is None or experiment in experiments:
            return
        experiments |= set(self._store.experiments() if self._store else ())
        if experiment not in experiments:
            raise PipelineError(
                f"there is no experiment {experiment!r}{did_you_mean(experiment, experiments)}",
                f"there are: {', '.join(sorted(experiments - {'Default'})) or 'none yet'}",
            )

    def _unknown_run(self, name: str) -> PipelineError:
        remote = self._store.search() if self._store else ()
        ids = {*self.local, *(run.pipeline_run for run in remote)}
        return PipelineError(
            f"there is no run {name!r}{did_you_mean(name, ids)}",
            f"give a run's id, as main.py prints it, its beginning, or `last` "
            f"(looked in: {settings.state_dir()})",
        )


def _has_metric(run: RunRecord, metric: str) -> bool:
    return run.status == "finished" and not math.isnan(run.metrics.get(metric, math.nan))


def _one_per_result(runs: Iterable[RunRecord]) -> Iterator[RunRecord]:
    """Keep the first of the runs that share one trained model."""
    results = set()
    for run in runs:
        if run.result_id not in results:
            results.add(run.result_id)
            yield run
