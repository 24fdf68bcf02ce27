"""The runs of the pipeline that were made, here and by colleagues on the same MLflow server.

Every run leaves ``summary.json``: in its folder, and, if anything had to be run, as an artifact of
its MLflow run. Both are the same text and are read by the same function.
"""

import heapq
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.schema import current_name
from pipeline.core import settings
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.metrics import lower_is_better
from pipeline.core.results import SUMMARY, StepResult

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline.history.mlflow_records import MlflowHistory

# What the MLflow run of a whole pipeline is tagged with; its steps' runs have no tracker
RUN_ID, TRACKER = "pipeline.run_id", "pipeline.tracker"


@dataclass(frozen=True)
class RunRecord:
    """One run of the pipeline, as it was recorded.

    Attributes:
        id: as main.py prints it.
        status: finished, failed, killed, or running.
        commit: the commit its code is based on; None outside a git repository.
        dirty: whether the code differed from that commit; None where it is not known.
        config: the resolved configuration.
        metrics: the model's.
        steps: by folder name. A run that was killed without a word has none.
        mlflow_run: id of its MLflow run; None if nothing had to be run.
        folder: what it left on this machine, if it was made here.
        summary: all that was recorded.
    """

    id: str
    status: str
    started: datetime
    developer: str
    project: str
    experiment: str
    tracker: str
    commit: str | None
    dirty: bool | None
    config: dict[str, Any]
    metrics: dict[str, float]
    steps: dict[str, StepResult]
    mlflow_run: str | None
    folder: Path | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """The configuration as dotted keys, under the names that they have today."""
        recorded = flat(self.config)
        moved = {key: name for key in recorded if (name := current_name(key)) != key}
        kept = {key: value for key, value in recorded.items() if key not in moved}
        return {name: recorded[key] for key, name in moved.items()} | kept

    @property
    def artifacts(self) -> dict[str, dict[str, Any]]:
        """Each artifact that the run read or made, by name: its version, digest and type."""
        found: dict[str, dict[str, Any]] = {}
        for step in self.steps.values():
            if step.status != "skipped":
                found |= {artifact["name"]: artifact for artifact in step.inputs + step.outputs}
        return found

    @property
    def result(self) -> str:
        """What its metrics are of: the same for all runs that handed on one trained model."""
        measured = [step.fingerprint for step in self.steps.values() if step.metrics]
        return (measured or [None])[-1] or self.id


def flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Dotted keys for nested ones; lists are values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


class History:
    """The runs that this state folder and its MLflow store know of.

    Attributes:
        local: the runs made on this machine, by id, the newest first.
    """

    def __init__(self) -> None:
        found = []
        for path in (settings.state_dir() / "runs").glob(f"**/{SUMMARY}"):
            try:
                found.append(record(path.read_text(encoding="utf-8"), path, path.parent))
            except PipelineError as error:
                print(f"warning: {error}".replace("\n", "; "), file=sys.stderr)
        found.sort(key=lambda run: (run.started, run.id), reverse=True)
        self.local = {run.id: run for run in found}

    @cached_property
    def _store(self) -> "MlflowHistory | None":
        """MLflow's store, or None where no run has made one yet."""
        path = settings.sqlite_path(settings.tracking_uri())
        if path and not path.exists():
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

        Raises:
            PipelineError: no run has measured it.
        """
        sign = 1 if lower_is_better(metric) else -1

        def rank(run: RunRecord) -> tuple[float, datetime]:
            return sign * run.metrics[metric], run.started

        order = [f"metrics.`{metric}` {'ASC' if sign > 0 else 'DESC'}", "attributes.start_time ASC"]
        ours = sorted((run for run in self._ours(experiment) if _has(run, metric)), key=rank)
        theirs = self._others(experiment, order, metric)
        found = islice(_one_per_result(heapq.merge(ours, theirs, key=rank)), count)
        if best := list(found):
            return best
        measured = [run.metrics for run in self._ours(experiment)]
        if self._store:
            measured += [run.data.metrics for run in self._store.search(experiment, [])]
        known = {name for metrics in measured for name in metrics}
        raise PipelineError(
            f"no finished run has the metric {metric!r}{did_you_mean(metric, known)}",
            f"measured were: {', '.join(sorted(known)) or 'none'}",
        )

    def _ours(self, experiment: str | None) -> list[RunRecord]:
        return [run for run in self.local.values() if experiment in (None, run.experiment)]

    def _named(self, name: str) -> "dict[str, Run]":
        """The others' runs whose id begins so; only what can be one is looked up."""
        if self._store is None or not re.fullmatch(r"[0-9a-f-]+", name):
            return {}
        found = self._store.search(None, [], f"tags.`{RUN_ID}` LIKE '{name}%'")
        return {run.data.tags[RUN_ID]: run for run in found}

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
            if run.data.tags[RUN_ID] in self.local:
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
        known = {*self.local, *(run.data.tags[RUN_ID] for run in theirs)}
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


def record(text: str, place: object, folder: Path | None = None) -> RunRecord:
    """A run from its ``summary.json``.

    Args:
        text: the summary.
        place: where it was read, for the message.
        folder: the run's folder on this machine.

    Raises:
        PipelineError: it is not what a run writes.
    """
    try:
        told = json.loads(text)
        known = {field.name for field in fields(StepResult)}
        steps = {
            name: StepResult(**{key: step[key] for key in known & step.keys()})
            for name, step in told["steps"].items()
        }
        return RunRecord(
            id=told["run_id"],
            status=told["status"],
            started=datetime.fromisoformat(told["started"]),
            developer=told["developer"],
            project=told["project"],
            experiment=told["experiment"],
            tracker=told["tracker"],
            commit=told["git_commit"],
            dirty=told["git_dirty"],
            config=told["config"],
            metrics=told["metrics"],
            steps=steps,
            mlflow_run=told["mlflow_run"],
            folder=folder,
            summary=told,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"the record of a run is damaged: {place} ({type(error).__name__}: {error})",
            "remove that run's folder, or run the pipeline again",
        ) from error
