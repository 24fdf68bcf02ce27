"""Finished steps, each with the evidence that its result can be reused.

Each is a small file, whole or not there at all. They are kept by step and by the digest of what is
known before it runs. Several can lie under one key: going back to a branch finds what was made
there.
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
from pipeline.core.dependencies import Evidence
from pipeline.core.files import UNUSABLE, parse_record, write_whole
from pipeline.core.results import StepResult, parse_result

Lock = Callable[[Path], AbstractContextManager[Any]]

FOLDER = "finished"  # in the state folder: a folder for each step, in it one for each key
EARLIER = ("cache", "steps")  # where earlier versions kept records, which prove too little
COMPARED = 20  # records that an explanation looks through for the nearest


class Damaged(Exception):
    """A record's file holds no record."""


@dataclass(frozen=True)
class Record:
    """A finished step.

    Attributes:
        result: what it came to.
        parts: what was known before it ran.
        evidence: what it was found to depend on.
    """

    result: StepResult
    parts: Parts
    evidence: Evidence

    @classmethod
    def read(cls, path: Path) -> "Record":
        """A record from its file.

        Raises:
            Damaged: it holds something else, or can't be read.
            FileNotFoundError: it is gone.
        """
        try:
            return cls.from_json(parse_record(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise
        except (OSError, *UNUSABLE) as error:
            raise Damaged(f"{path} is damaged ({type(error).__name__}: {error})") from error

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Record":
        """A record from what :meth:`to_json` gave."""
        parts, evidence = told["parts"], Evidence(**told["evidence"])
        _ = parts["tracker"]["store"] + "", evidence.variables.items()
        _ = [names.items() for names in evidence.proof.values()]
        return cls(parse_result(told["result"]), parts, evidence)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON takes it."""
        return asdict(self)


def fingerprint(parts: Parts, evidence: Evidence) -> str:
    """One digest of all that a result depends on."""
    return digest({"parts": parts, "evidence": asdict(evidence)})


class Cache:
    """The finished steps that this state folder knows of.

    Args:
        state: the state folder.
        lock: keeps others from running a step at the same time; across machines it is not a file's.
        warn: tells of a record that can't be used.
    """

    def __init__(
        self, state: Path, lock: Lock = FileLock, warn: Callable[[str], None] = warnings.warn
    ):
        self.folder, self._lock, self._warn = state / FOLDER, lock, warn
        self._earlier = [state / name for name in EARLIER]

    @property
    def notice(self) -> str:
        """A line on an earlier version's records, until this version has records of its own."""
        for earlier in self._earlier:
            if earlier.is_dir() and not self.folder.exists():
                return (
                    f"{earlier} has an earlier version's records of finished steps, which are "
                    "ignored: each step runs once more"
                )
        return ""

    def lock(self, step: str, key: str) -> AbstractContextManager[Any]:
        """The lock to hold while a step is looked up or run, so that it is run once."""
        return self._lock(self._lock_path(step, key))

    def _lock_path(self, step: str, key: str) -> Path:
        path = self.folder / step / f"{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def is_running(self, step: str, key: str) -> bool:
        """Whether another process on this machine is at this step, which nobody has finished."""
        if any((self.folder / step / key).glob("*.json")):
            return False
        try:
            with FileLock(self._lock_path(step, key), timeout=0):
                return False
        except Timeout:
            return True

    def get(self, step: str, present: CurrentState) -> StepResult | None:
        """The step as it was finished last with just what it would meet now."""
        for record in self._records(step, present.key):
            if present.matches(record.evidence):
                return record.result
        return None

    def put(self, record: Record, key: str) -> None:
        """Remember a finished step."""
        path = self._path(record.result, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():  # not made here: it stays
            self._warn(f"{path} is a folder; the step is run again the next time")
            return
        write_whole(path, json.dumps(record.to_json(), indent=1))

    def _path(self, result: StepResult, key: str) -> Path:
        return self.folder / result.step / key / f"{result.fingerprint}.json"

    def forget(self, result: StepResult, key: str) -> None:
        """Drop a step whose outputs are gone or damaged."""
        self._path(result, key).unlink(missing_ok=True)

    def touch(self, result: StepResult, key: str) -> None:
        """Make a step that was handed on the latest of its kind."""
        os.utime(self._path(result, key))

    def find(self, result: StepResult) -> Record | None:
        """The record of a result."""
        paths = (self.folder / result.step).glob(f"*/{result.fingerprint}.json")
        return next(self._read(paths), None)

    def latest(self, step: str, store: str | None = None) -> StepResult | None:
        """The step as it was finished last, in this tracker and project, or in any."""
        for record in self._records(step):
            if store in (None, record.parts["tracker"]["store"]):
                return record.result
        return None

    def why(self, step: str, parts: Parts, present: CurrentState) -> list[str]:
        """What differs from the nearest earlier run: the one with the fewest differences."""
        nearest = None
        for record, _ in zip(self._records(step), range(COMPARED), strict=False):
            before, now = present.changed_parts(record.evidence)
            lines = differences(record.parts, parts) + differences(before, now)
            if nearest is None or len(lines) < len(nearest):
                nearest = lines
        return nearest or ["it has not been run before"]

    def _records(self, step: str, key: str = "*") -> Iterator[Record]:
        """Earlier runs of a step, the newest first."""
        paths = (self.folder / step).glob(f"{key}/*.json")
        return self._read(sorted(paths, key=_changed, reverse=True))

    def _read(self, paths: Iterable[Path]) -> Iterator[Record]:
        for path in paths:
            try:
                yield Record.read(path)
            except FileNotFoundError:
                continue  # removed meanwhile
            except Damaged as error:
                self._warn(f"{error}; it is not used")


def _changed(path: Path) -> float:
    """When a record was written or used last; it may have been removed meanwhile, or be damaged."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
