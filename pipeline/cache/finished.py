"""Finished steps, by fingerprint: one small file each, whole or not there at all."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.cache.fingerprint import Parts, differences
from pipeline.core.files import write_whole
from pipeline.core.results import StepResult

Lock = Callable[[Path], AbstractContextManager[Any]]

FOLDER = "steps"  # in the state folder: a folder of records for each step
EARLIER = "cache"  # where earlier versions kept records, which say too little to be reused


class Cache:
    """The finished steps that this state folder knows of.

    Args:
        state: the state folder.
        lock: keeps others from running a step at the same time; across machines it is not a file's.
    """

    def __init__(self, state: Path, lock: Lock = FileLock):
        self.folder, self._earlier, self._lock = state / FOLDER, state / EARLIER, lock

    @property
    def notice(self) -> str:
        """A line on an earlier version's records, until this version has records of its own."""
        if self.folder.exists() or not self._earlier.is_dir():
            return ""
        return (
            f"{self._earlier} has an earlier version's records of finished steps, which are "
            "ignored: each step runs once more"
        )

    def _path(self, step: str, fingerprint: str | None) -> Path:
        return self.folder / step / f"{fingerprint}.json"

    def alone(self, step: str, fingerprint: str) -> AbstractContextManager[Any]:
        """The lock to hold while a step is looked up or run, so that it is run once."""
        return self._lock(self._lock_path(step, fingerprint))

    def _lock_path(self, step: str, fingerprint: str) -> Path:
        path = self._path(step, fingerprint).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def under_way(self, step: str, fingerprint: str) -> bool:
        """Whether another process on this machine is at this step, which nobody has finished."""
        if self._path(step, fingerprint).exists():
            return False
        try:
            with FileLock(self._lock_path(step, fingerprint), timeout=0):
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
