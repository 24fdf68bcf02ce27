"""The runs that were made here, and those of colleagues on the same MLflow server."""

import heapq
import math
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.core import databases, settings
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.metrics import lower_is_better
from pipeline.core.results import RUN_ID_TAG, SUMMARY
from pipeline.core.text import say
from pipeline.history.records import RunRecord, read_text, record

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline.history.mlflow_records import MlflowHistory


class History:
    """The runs that this state folder and its MLflow store know of.

    Attributes:
        local: the runs made on this machine, by id, the newest first.
    """

    def __init__(self) -> None:
        found = []
        for path in (settings.state_dir() / "runs").glob(f"**/{SUMMARY}"):
            try:
                found.append(record(read_text(path), path, path.parent))
            except PipelineError as error:
                say(f"warning: {error}".replace("\n", "; "), file=sys.stderr)
        found.sort(key=lambda run: (run.started, run.id), reverse=True)
        self.local = {run.id: run for run in found}

    @cached_property
    def _store(self) -> "MlflowHistory | None":
        """MLflow's store, or None where all that it has is here: MLflow takes long to import."""
        file = settings.sqlite_path(settings.tracking_uri())
        query = "SELECT value FROM tags WHERE key = ?"
        if file and all(
            id in self.local for (id,) in databases.rows(file, query, [RUN_ID_TAG], table="tags")
        ):
            return None
        from pipeline.history.mlflow_records import MlflowHistory

        return MlflowHistory()

    def find(self, name: str) -> RunRecord:
        """The run with this id or the beginning of one; ``last`` is the newest made here.

        Raises:
            PipelineError: there is none, or there are several, or its record is damaged.
        """
        if name == "last":
            newest = next(iter(self.local.values()), None) or next(self.runs(), None)
            if newest is None:
                raise PipelineError("there is no run yet", "make one: python main.py")
            return newest
        if name in self.local:
            return self.local[name]
        theirs = self._named(name)
        found = {id for id in self.local if id.startswith(name) and name} | theirs.keys()
        found = {name} if name in found else found
        if not found:
            raise self._unknown(name)
        if len(found) > 1:
            some = ", ".join(sorted(found)[:5]) + (", ..." if len(found) > 5 else "")
            raise PipelineError(
                f"{len(found)} runs begin with {name!r}: {some}", "give more of the run's id"
            )
        id = found.pop()
        return self.local.get(id) or self._store.read(theirs[id])

    def runs(self, experiment: str | None = None) -> Iterator[RunRecord]:
        """All runs, the newest first; those of others are read as they are asked for.

        Raises:
            PipelineError: there is no such experiment, or MLflow's server does not answer.
        """
        theirs = self._others(experiment, ["attributes.start_time DESC"])
        ours = self._ours(experiment)
        return heapq.merge(ours, theirs, key=lambda run: run.started, reverse=True)

    def best(self, metric: str, count: int, experiment: str | None = None) -> list[RunRecord]:
        """The finished runs with the best metric, the best first; one for each result.

        Only those count that have the test data of the newest one: others are not comparable.

        Raises:
            PipelineError: no run has measured it.
        """
        sign = 1 if lower_is_better(metric) else -1

        def rank(run: RunRecord) -> tuple[float, datetime]:
            return sign * run.metrics[metric], run.started

        order = [f"metrics.`{metric}` {'ASC' if sign > 0 else 'DESC'}", "attributes.start_time ASC"]
        ours = sorted((run for run in self._ours(experiment) if _has(run, metric)), key=rank)
        theirs = self._others(experiment, order, metric)
        measured = heapq.merge(ours, theirs, key=rank)
        newest = next((run for run in self.runs(experiment) if _has(run, metric)), None)
        alike = (run for run in measured if newest and run.test == newest.test)
        if best := [*islice(_one_per_result(alike), count)]:
            return best
        metrics = [run.metrics for run in self._ours(experiment)]
        if self._store:
            metrics += [run.data.metrics for run in self._store.search(experiment, [])]
        known = {name for one in metrics for name in one}
        raise PipelineError(
            f"no finished run has the metric {metric!r}{did_you_mean(metric, known)}",
            f"measured were: {', '.join(sorted(known)) or 'none'}",
        )

    def elsewhere(self, metric: str, test: str | None, experiment: str | None = None) -> int:
        """How many runs made here have measured a metric on other test data."""
        return sum(_has(run, metric) and run.test != test for run in self._ours(experiment))

    def _ours(self, experiment: str | None) -> list[RunRecord]:
        return [run for run in self.local.values() if experiment in (None, run.experiment)]

    def _named(self, name: str) -> "dict[str, Run]":
        """The others' runs whose id begins so; only what can be one is looked up."""
        if self._store is None or not re.fullmatch(r"[0-9a-f-]+", name):
            return {}
        found = self._store.search(None, [], f"tags.`{RUN_ID_TAG}` LIKE '{name}%'")
        return {run.data.tags[RUN_ID_TAG]: run for run in found}

    def _others(
        self, experiment: str | None, order: list[str], metric: str | None = None
    ) -> Iterator[RunRecord]:
        """Runs that are in MLflow and not on this machine."""
        self._check(experiment)
        if self._store is None:
            return
        for run in self._store.search(experiment, order):
            if metric and metric not in run.data.metrics:
                return  # the rest have it neither
            if run.data.tags[RUN_ID_TAG] in self.local:
                continue
            found = self._store.read(run)
            if metric is None or _has(found, metric):
                yield found

    def _check(self, experiment: str | None) -> None:
        known = {run.experiment for run in self.local.values()}
        if experiment is None or experiment in known:
            return
        known |= set(self._store.experiments() if self._store else ())
        if experiment not in known:
            raise PipelineError(
                f"there is no experiment {experiment!r}{did_you_mean(experiment, known)}",
                f"there are: {', '.join(sorted(known - {'Default'})) or 'none yet'}",
            )

    def _unknown(self, name: str) -> PipelineError:
        theirs = self._store.search(None, []) if self._store else ()
        known = {*self.local, *(run.data.tags[RUN_ID_TAG] for run in theirs)}
        return PipelineError(
            f"there is no run {name!r}{did_you_mean(name, known)}",
            f"give a run's id, as main.py prints it, its beginning, or `last` "
            f"(looked in: {settings.state_dir()})",
        )


def _has(run: RunRecord, metric: str) -> bool:
    return run.status == "finished" and not math.isnan(run.metrics.get(metric, math.nan))


def _one_per_result(runs: Iterable[RunRecord]) -> Iterator[RunRecord]:
    """Leave out runs that handed on what another of these runs made."""
    seen = set()
    for run in runs:
        if run.result not in seen:
            seen.add(run.result)
            yield run
