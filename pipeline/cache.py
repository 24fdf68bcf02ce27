"""Finished steps, by fingerprint: one small file each, whole or not there at all."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline import settings
from pipeline.digests import file_digest
from pipeline.errors import PipelineError
from pipeline.fingerprint import Parts, Reference, differences

# Keeps others from running a step at the same time; a launcher that spans machines has its own.
lock: Callable[[Path], AbstractContextManager] = FileLock


@dataclass
class StepResult:
    """What a step came to; ``result["clean_data.csv"]`` is the exact version it produced."""

    step: str
    status: str  # ran, cached, failed, killed, skipped, or in an explanation "would run"
    seconds: float | None = None
    fingerprint: str | None = None
    pipeline_run: str | None = None
    mlflow_run: str | None = None
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    environment: str | None = None  # digest of the lock of the packages it ran with
    tables: list[str] = field(default_factory=list)
    tracker_run: str | None = None
    tracker_url: str | None = None

    def __getitem__(self, artifact: str) -> Reference:
        """The exact version of an output."""
        for output in self.outputs:
            if output["name"] == artifact:
                return Reference(f"{artifact}:{output['version']}", output["digest"])
        if self.status in ("skipped", "would run"):
            return Reference(f"{artifact}:?", f"from {self.step} ({self.status})")
        raise PipelineError(
            f"{self.step} logged no artifact {artifact!r}",
            f"it logged: {', '.join(output['name'] for output in self.outputs)}",
        )

    def metric(self, name: str | None) -> float | None:
        """A metric by name, as it was measured on training rows; on the test data if none were held
        out.

        None means the usual one, and None comes back where there is none.

        Raises:
            PipelineError: it was not measured, can't be on these rows, or is not a number.
        """
        if name is None:
            name = next((usual for usual in ("f1", "r2") if usual in self.metrics), None)
        if name is None or self.status in ("skipped", "would run"):
            return None
        found = measured_as(name, self.metrics)
        if found is None and name in self.metrics:
            raise PipelineError(
                f"{name} is undefined on the training rows that trials are measured on: a class is "
                "missing there",
                "hold out more (model.validation=0.3), measure by folds (model.cv=3), or choose "
                "another model.metric",
            )
        if found is None:
            raise PipelineError(
                f"model.metric={name!r} was not measured",
                f"use one of: {', '.join(self.metrics)}",
            )
        if math.isnan(self.metrics[found]):
            raise PipelineError(
                f"{found} is not a number (NaN) for this model and these rows",
                "choose another model.metric, or give it more rows to be measured on",
            )
        return self.metrics[found]


def measured_as(name: str, metrics: Mapping[str, float]) -> str | None:
    """The name under which a metric was measured: by folds, or on held-out rows.

    On the test data only where nothing was measured on training rows: nothing is chosen by it.
    """
    held_out = any(key.startswith(("cv_", "val_")) for key in metrics)
    names = (f"cv_{name}_mean", f"val_{name}") if held_out else (name,)
    return next((name for name in names if name in metrics), None)


class Cache:
    """The finished steps that this state folder knows of."""

    def __init__(self, state: Path):
        self.folder = state / "cache"

    def _path(self, step: str, fingerprint: str) -> Path:
        return self.folder / step / f"{fingerprint}.json"

    def lock_path(self, step: str, fingerprint: str) -> Path:
        """The file to lock while a step is looked up or run, so that it is run once."""
        path = self._path(step, fingerprint).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def under_way(self, step: str, fingerprint: str) -> bool:
        """Whether another process on this machine is at this step, which nobody has finished."""
        if self._path(step, fingerprint).exists():
            return False
        try:
            with FileLock(self.lock_path(step, fingerprint), timeout=0):
                return False
        except Timeout:
            return True

    def get(self, step: str, fingerprint: str) -> StepResult | None:
        """The finished step with this fingerprint."""
        try:
            return _result(self._path(step, fingerprint))
        except FileNotFoundError:
            return None

    def put(self, result: StepResult, found: Parts) -> None:
        """Remember a finished step, with what it depended on."""
        path = self._path(result.step, result.fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"parts": found, "result": asdict(result)}
        write_whole(path, json.dumps(record, indent=1))

    def forget(self, result: StepResult) -> None:
        """Drop a step whose outputs are gone or damaged."""
        self._path(result.step, result.fingerprint).unlink(missing_ok=True)

    def latest(self, step: str, store: str | None = None) -> StepResult | None:
        """The step as it was finished last, in this tracker and project, or in any."""
        for path, parts in self._records(step):
            if store in (None, parts["tracker"]["store"]):
                return _result(path)
        return None

    def why(self, step: str, found: Parts) -> list[str]:
        """What differs from the nearest earlier run: the one with the fewest differences."""
        compared = (differences(parts, found) for _, parts in self._records(step))
        return min(compared, key=len, default=["it has not been run before"])

    def _records(self, step: str) -> Iterator[tuple[Path, Parts]]:
        """Earlier runs of a step, the newest first."""
        paths = (self.folder / step).glob("*.json")
        for path in sorted(paths, key=os.path.getmtime, reverse=True):
            yield path, json.loads(path.read_text(encoding="utf-8"))["parts"]

    def touch(self, result: StepResult) -> None:
        """Make a step that was handed on the latest of its kind."""
        os.utime(self._path(result.step, result.fingerprint))


def _result(path: Path) -> StepResult:
    return StepResult(**json.loads(path.read_text(encoding="utf-8"))["result"])


def write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody ever sees a part of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def damage(outputs: list[dict[str, Any]]) -> list[str]:
    """What is wrong with outputs that are kept on this machine: each file that is gone or changed.

    An output without ``stored`` files is on a server, which has to be asked instead.
    """
    problems = []
    for output in outputs:
        for place, digest in output.get("stored", {}).items():
            path = settings.trackio_dir() / place
            name = f"{output['name']}:{output['version']}"
            if not path.is_file():
                problems.append(f"{name} is missing its file {path}")
            elif file_digest(path) != digest:
                problems.append(f"{name} has been changed on disk: {path}")
    return problems
