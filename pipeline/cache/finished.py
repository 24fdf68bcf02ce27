"""The cache: records of finished steps, each with the evidence for its reuse.

Each record is a small file, written atomically, in a folder per step and cache key. One key can
have several records, so that a return to a branch finds the results made there.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.cache.compare import CurrentState, Parts, differences, digest
from pipeline.core.files import UNUSABLE, parse_record, write_whole
from pipeline.core.results import StepResult, parse_result
from pipeline.core.tracing.dependencies import Evidence

Lock = Callable[[Path], AbstractContextManager[Any]]

FOLDER = "finished"  # in the state folder, with the subfolders STEP/KEY
EARLIER = ("cache", "steps")  # folders of earlier versions' records, which are ignored
COMPARED = 20  # newest records that an explanation compares


class Damaged(Exception):
    """A record's file is damaged."""


@dataclass(frozen=True)
class Record:
    """A finished step.

    Attributes:
        result: the step's result.
        parts: the parts of its cache key.
        evidence: what the step depended on.
    """

    result: StepResult
    parts: Parts
    evidence: Evidence

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read a record from its file.

        Raises:
            Damaged: the file holds no record or can't be read.
            FileNotFoundError: the file does not exist.
        """
        try:
            return cls.from_json(parse_record(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise
        except (OSError, *UNUSABLE) as error:
            raise Damaged(f"{path} is damaged ({type(error).__name__}: {error})") from error

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Record":
        """A record from the value of :meth:`to_json`."""
        parts, evidence = content["parts"], Evidence(**content["evidence"])
        _ = parts["tracker"]["store"] + "", evidence.variables.items()
        _ = [names.items() for names in evidence.proof.values()]
        return cls(parse_result(content["result"]), parts, evidence)

    def to_json(self) -> dict[str, Any]:
        """The record as a mapping for JSON."""
        return asdict(self)


def fingerprint(parts: Parts, evidence: Evidence) -> str:
    """The digest of everything that a result depends on."""
    return digest({"parts": parts, "evidence": asdict(evidence)})


class Cache:
    """The records of finished steps in a state folder.

    Args:
        state: the state folder.
        lock: makes the lock of a step; a file lock, or one that works across machines.
        warn: reports a record that can't be used.
    """

    def __init__(
        self, state: Path, lock: Lock = FileLock, warn: Callable[[str], None] = warnings.warn
    ):
        self.folder, self._lock, self._warn = state / FOLDER, lock, warn
        self._earlier = [state / name for name in EARLIER]

    @property
    def notice(self) -> str:
        """A message about records of an earlier version, until this version has written its own."""
        for earlier in self._earlier:
            if earlier.is_dir() and not self.folder.exists():
                return (
                    f"{earlier} has an earlier version's records of finished steps, which are "
                    "ignored: each step runs once more"
                )
        return ""

    def lock(self, step: str, key: str) -> AbstractContextManager[Any]:
        """The lock to hold while a step is looked up or run, so that it runs once."""
        return self._lock(self._lock_path(step, key))

    def _lock_path(self, step: str, key: str) -> Path:
        path = self.folder / step / f"{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def is_running(self, step: str, key: str) -> bool:
        """Whether another process on this machine runs a step that has no record yet."""
        if any((self.folder / step / key).glob("*.json")):
            return False
        try:
            with FileLock(self._lock_path(step, key), timeout=0):
                return False
        except Timeout:
            return True

    def get(self, step: str, current: CurrentState) -> StepResult | None:
        """The newest result whose evidence matches the current state."""
        for record in self._records(step, current.key):
            if current.matches(record.evidence):
                return record.result
        return None

    def put(self, record: Record, key: str) -> None:
        """Store the record of a finished step."""
        path = self._path(record.result, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():  # not written by the cache, so it stays
            self._warn(f"{path} is a folder; the step is run again the next time")
            return
        write_whole(path, json.dumps(record.to_json(), indent=1))

    def _path(self, result: StepResult, key: str) -> Path:
        return self.folder / result.step / key / f"{result.fingerprint}.json"

    def forget(self, result: StepResult, key: str) -> None:
        """Remove the record of a result whose outputs are missing or damaged."""
        self._path(result, key).unlink(missing_ok=True)

    def touch(self, result: StepResult, key: str) -> None:
        """Mark the record of a reused result as the newest."""
        os.utime(self._path(result, key))

    def find(self, result: StepResult) -> Record | None:
        """The record of a result."""
        paths = (self.folder / result.step).glob(f"*/{result.fingerprint}.json")
        return next(self._read(paths), None)

    def latest(self, step: str, store: str | None = None) -> StepResult | None:
        """The newest result of a step; with ``store``, in that tracker and project."""
        for record in self._records(step):
            if store in (None, record.parts["tracker"]["store"]):
                return record.result
        return None

    def why(self, step: str, parts: Parts, current: CurrentState) -> list[str]:
        """The differences to the record that has the fewest."""
        nearest = None
        for record, _ in zip(self._records(step), range(COMPARED), strict=False):
            before, now = current.changed_parts(record.evidence)
            lines = differences(record.parts, parts) + differences(before, now)
            if nearest is None or len(lines) < len(nearest):
                nearest = lines
        return nearest or ["it has not been run before"]

    def _records(self, step: str, key: str = "*") -> Iterator[Record]:
        """The records of a step, the newest first."""
        paths = (self.folder / step).glob(f"{key}/*.json")
        return self._read(sorted(paths, key=_changed, reverse=True))

    def _read(self, paths: Iterable[Path]) -> Iterator[Record]:
        for path in paths:
            try:
                yield Record.read(path)
            except FileNotFoundError:
                continue  # removed by another process
            except Damaged as error:
                self._warn(f"{error}; it is not used")


def _changed(path: Path) -> float:
    """The time at which a record was last written or reused; 0 if the file is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
