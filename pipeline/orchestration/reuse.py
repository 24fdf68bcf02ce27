"""What was finished before, here or by those who share the tracker, and may be handed on."""

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
from pipeline.core.dependencies import Evidence, keep_lock, library_variables, user_variables
from pipeline.core.results import StepResult, records_of
from pipeline.tracking import Tracker, local_records

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Reuse:
    """Finds the result of a step that would meet just what it met when it was made.

    Args:
        main: the section of the configuration.
        cache: what this state folder knows of.
        tracker: where outputs are, and what others have finished.
        trial: the trial that this run is, if it is one.
        variables: the environment variables that the run was started with.
        lock: gives the packages that a step would run with.
        warn: tells the user something.

    Attributes:
        by_libraries: the environment variables that libraries go by, as the user has set them.
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
        self.by_libraries = trial.variables if trial else library_variables(variables)
        self._variables = user_variables(variables, self.by_libraries)

    def current_state(self, step: str, parts: Parts) -> CurrentState:
        """What a step would meet now, given what is known of it."""
        return CurrentState(digest(parts), self._variables, lambda: self._lock(step))

    def find(self, step: str, parts: Parts, present: CurrentState) -> StepResult | None:
        """The step as it was finished before, if it may be handed on."""
        if self._main.force and not (self._trial and self._trial.done):
            return None
        result = self._known(step, parts, present)
        if result is None:
            return None
        started = time.monotonic()
        result.warnings = []
        if self._has_changed(result):
            return None
        if problems := self._lost(result):
            for problem in problems:
                self._warn(f"{problem}; {step} is run again")
            self._cache.forget(result, present.key)
            return None
        self._cache.touch(result, present.key)
        result.status, result.seconds = "cached", time.monotonic() - started
        return result

    def explain(
        self, step: str, parts: Parts, present: CurrentState
    ) -> tuple[StepResult | None, list[str]]:
        """What would be handed on; or None, and why it would not."""
        result = self._known(step, parts, present)
        if self._main.force:
            return None, ["main.force is set"]
        if result is None:
            return None, self._cache.why(step, parts, present)
        reasons = []
        for source in result.sources:
            try:
                reasons.append(sources.changed(source, self._main.revalidate))
            except sources.Unreachable:
                continue  # what was fetched before is used
        told = [reason for reason in reasons if reason]
        told += self._lost(result)
        return None if told else result, told

    def _known(self, step: str, parts: Parts, present: CurrentState) -> StepResult | None:
        return self._cache.get(step, present) or self._shared(step, parts, present)

    def _shared(self, step: str, parts: Parts, present: CurrentState) -> StepResult | None:
        """The step as others who share the tracker have finished it, from now on known here too."""
        reference = f"{records_of(step)}:{present.key}"
        if not self._tracker.shared or self._tracker.find(reference) is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = self._tracker.fetch(reference, Path(folder)).file()
            text = path.read_text(encoding="utf-8")
        try:
            told = json.loads(text)
            evidence, report = Evidence(**told["evidence"]), told["report"]
            lock, _ = report.pop("environment"), report.pop("files")
            result = StepResult(step, "ran", fingerprint=fingerprint(parts, evidence), **report)
        except (ValueError, TypeError, LookupError) as error:
            self._warn(f"{reference} is damaged ({type(error).__name__}: {error}); it is not used")
            return None
        result.environment = keep_lock(lock)
        self._cache.put(Record(result, parts, evidence), present.key)
        return self._cache.get(step, present)

    def _has_changed(self, result: StepResult) -> bool:
        """Whether something that the step fetched from outside is another one now."""
        sweep = f"{self._trial.sweep}-" if self._trial else None
        if sweep and (result.pipeline_run or "").startswith(sweep):
            return False  # all trials of a sweep have the same data
        for source in result.sources:
            try:
                if sources.changed(source, self._main.revalidate):
                    return True
            except sources.Unreachable as error:
                note = f"{error}; using what was fetched before ({result.pipeline_run})"
                result.warnings = [note]
        return False

    def _lost(self, result: StepResult) -> list[str]:
        """What is not there any more, here or in the tracker."""
        return local_records.lost(result, self._tracker.store) or self._missing(result)

    def _missing(self, result: StepResult) -> list[str]:
        """Outputs that the tracker should have and does not, under just that version.

        Only others can have given a version that is on this machine to something else.
        """
        problems = []
        for output in result.outputs:
            if output.get("stored") and not self._tracker.shared:
                continue
            name = f"{output['name']}:{output['version']}"
            found = self._tracker.find(name)
            if found is None or found.digest != output["digest"]:
                problems.append(f"{name} is gone from {self._tracker.store}")
        return problems
