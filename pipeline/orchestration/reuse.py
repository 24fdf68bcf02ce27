"""Finds results that can be reused, from this state folder or from a shared tracker."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cache import sources
from pipeline.cache.compare import CurrentState, Parts, digest
from pipeline.cache.finished import Cache, Record, fingerprint
from pipeline.config.job import Trial
from pipeline.core.results import StepResult, records_of
from pipeline.core.tracing.dependencies import (
    Evidence,
    keep_lock,
    library_variables,
    user_variables,
)
from pipeline.tracking import Tracker, local_records

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Reuse:
    """Finds the result of a step whose evidence matches the current state.

    Args:
        main: the section ``main`` of the configuration.
        cache: the records of this state folder.
        tracker: the tracker with the outputs, and with other users' records if it is shared.
        trial: the trial of a sweep; None for a single run.
        variables: the environment variables at the start of the run.
        lock: returns the lock of a step's packages.
        warn: shows a warning.

    Attributes:
        library_values: the environment variables that libraries read, as the user has set them.
    """

    def __init__(
        self,
        main: "DictConfig",
        cache: Cache,
        tracker: Tracker,
        trial: Trial | None,
        *,
        variables: Mapping[str, str],
        lock: Callable[[str], list[str]],
        warn: Callable[[str], None],
    ):
        self._main, self._cache, self._tracker, self._trial = main, cache, tracker, trial
        self._lock, self._warn = lock, warn
        self.library_values = trial.variables if trial else library_variables(variables)
        self._variables = user_variables(variables, self.library_values)

    def current_state(self, step: str, parts: Parts) -> CurrentState:
        """The current state of a step, from the parts of its cache key."""
        return CurrentState(digest(parts), self._variables, lambda: self._lock(step))

    def find(self, step: str, parts: Parts, current: CurrentState) -> StepResult | None:
        """An earlier result of the step that can be reused, or None."""
        if self._main.force and not (self._trial and self._trial.done):
            return None
        result = self._recorded(step, parts, current)
        if result is None:
            return None
        started = time.monotonic()
        result.warnings = []
        if self._has_changed(result):
            return None
        if problems := self._lost(result):
            for problem in problems:
                self._warn(f"{problem}; {step} is run again")
            self._cache.forget(result, current.key)
            return None
        self._cache.touch(result, current.key)
        result.status, result.seconds = "cached", time.monotonic() - started
        return result

    def explain(
        self, step: str, parts: Parts, current: CurrentState
    ) -> tuple[StepResult | None, list[str]]:
        """The result that would be reused; or None, and the reasons against reuse."""
        result = self._recorded(step, parts, current)
        if self._main.force:
            return None, ["main.force is set"]
        if result is None:
            return None, self._cache.why(step, parts, current)
        reasons = []
        for source in result.sources:
            try:
                reasons.append(sources.changed(source, self._main.revalidate))
            except sources.Unreachable:
                continue  # the earlier download is used
        problems = [reason for reason in reasons if reason]
        problems += self._lost(result)
        return None if problems else result, problems

    def _recorded(self, step: str, parts: Parts, current: CurrentState) -> StepResult | None:
        return self._cache.get(step, current) or self._shared(step, parts, current)

    def _shared(self, step: str, parts: Parts, current: CurrentState) -> StepResult | None:
        """A result that another user of the tracker has recorded; stored in this cache too."""
        reference = f"{records_of(step)}:{current.key}"
        if not self._tracker.shared or self._tracker.find(reference) is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = self._tracker.fetch(reference, Path(folder)).file()
            text = path.read_text(encoding="utf-8")
        try:
            record = json.loads(text)
            evidence, report = Evidence(**record["evidence"]), record["report"]
            lock, _ = report.pop("environment"), report.pop("files")
            result = StepResult(step, "ran", fingerprint=fingerprint(parts, evidence), **report)
        except (ValueError, TypeError, LookupError) as error:
            self._warn(f"{reference} is damaged ({type(error).__name__}: {error}); it is not used")
            return None
        result.environment = keep_lock(lock)
        self._cache.put(Record(result, parts, evidence), current.key)
        return self._cache.get(step, current)

    def _has_changed(self, result: StepResult) -> bool:
        """Whether a source of the step has changed."""
        sweep = f"{self._trial.sweep}-" if self._trial else None
        if sweep and (result.pipeline_run or "").startswith(sweep):
            return False  # all trials of a sweep use the same data
        for source in result.sources:
            try:
                if sources.changed(source, self._main.revalidate):
                    return True
            except sources.Unreachable as error:
                note = f"{error}; using what was fetched before ({result.pipeline_run})"
                result.warnings = [note]
        return False

    def _lost(self, result: StepResult) -> list[str]:
        """The outputs that are missing or changed, here or in the tracker."""
        return local_records.problems(result, self._tracker.store) or self._missing(result)

    def _missing(self, result: StepResult) -> list[str]:
        """The outputs that the tracker no longer has in this version.

        Outputs stored on this machine are checked only if the tracker is shared: otherwise nobody
        else changes their versions.
        """
        problems = []
        for output in result.outputs:
            if output.get("stored") and not self._tracker.shared:
                continue
            name = f"{output['name']}:{output['version']}"
            artifact = self._tracker.find(name)
            if artifact is None or artifact.digest != output["digest"]:
                problems.append(f"{name} is gone from {self._tracker.store}")
        return problems
