"""The run of the whole pipeline in the tracker, beside those of its steps."""

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.core.results import StepResult
from pipeline.steps.context import StepContext
from pipeline.tracking import Named, Tracker, TrackerRun
from pipeline.tracking.interface import PIPELINE, RUN_OF, STATUS_OF


class TrackedRun:
    """What a run of the pipeline was configured with, and what its steps came to.

    In W&B it is open from the first step to the end, so that it is seen, found by a sweep's agent
    and has a state; a run that has run nothing is there, too. In Trackio it is written at the end
    of a run that has run something and was not stopped: Trackio has no states, and importing it
    takes longer than all of a run in which nothing has changed. There a trial has none beside its
    sweep's.

    Args:
        tracker: the tracker's project.
        config: the configuration as it is recorded.
        named: the run and the sweep that it has to be, if somebody has named them.
        trial: whether this is one of a sweep.
        alert: whether a run that fails is to alert whoever has asked the tracker for that.
        warn: tells the user something.
    """

    def __init__(
        self,
        tracker: Tracker,
        config: Mapping[str, Any],
        named: Named,
        trial: bool,
        alert: bool,
        warn: Callable[[str], None],
    ):
        self._tracker, self._config, self._named, self._warn = tracker, config, named, warn
        self._trial, self._alert = trial, alert
        self._run: TrackerRun | None = None

    @property
    def url(self) -> str | None:
        """The run's page, if it is open and the tracker has a server."""
        return self._run.url if self._run else None

    def begin(self, context: StepContext) -> None:
        """Open the run in W&B, unless it is open.

        Raises:
            PipelineError: the server does not take it.
        """
        if self._run is None and self._tracker.kind == "wandb":
            self._run = self._open(context)

    def _open(self, context: StepContext) -> TrackerRun:
        return self._tracker.open_run(
            job_type=PIPELINE,
            name=f"{PIPELINE}-{context.run_id}",
            config={**self._config, **self._named.parameters, **context.labels()},
            named=self._named,
        )

    def prepare_end(self) -> None:
        """Import what :meth:`end` needs, while a step runs."""
        if not self._trial:
            self._tracker.load()

    def end(
        self,
        context: StepContext,
        results: Mapping[str, StepResult],
        metrics: Mapping[str, float],
        mlflow_run: str | None,
        error: BaseException | None,
    ) -> None:
        """Record what the steps came to, and end the run.

        All of it is recorded elsewhere, too, so a tracker that does not take it is a warning: the
        run may have been deleted meanwhile.
        """
        if self._run is None and not self._is_written_late(results, error):
            return
        with contextlib.redirect_stdout(io.StringIO()):  # Trackio greets and takes its leave
            try:
                run = self._run or self._open(context)
                with contextlib.ExitStack() as on_failure:
                    on_failure.push(lambda _, stopped, __: run.finish(True, error or stopped))
                    if error is None:
                        for reference in _handed_over(results):
                            run.use_unread(reference)
                    if metrics:
                        run.log(metrics)
                    config = context.labels()
                    config |= {"mlflow_run_id": mlflow_run} if mlflow_run else {}
                    run.update(_summary(results, error), config)
                    if self._alert and _state(error) == "failed":
                        run.alert(f"{self._tracker.project} failed", f"{context.run_id}: {error}")
                    on_failure.pop_all()
                run.finish(error is not None, error)
            except PipelineError as failure:
                self._warn(f"the pipeline's own run in {self._tracker.kind}: {failure.what}")

    def _is_written_late(
        self, results: Mapping[str, StepResult], error: BaseException | None
    ) -> bool:
        """Whether a run that is not open yet is written now."""
        stopped = _state(error) == "killed"  # nobody waits for an import then
        return self._tracker.kind != "wandb" and not (self._trial or stopped) and _has_run(results)


def _state(error: BaseException | None) -> str:
    """How a run ended: finished, failed by itself, or killed, that is, stopped by somebody."""
    if error is None:
        return "finished"
    return "killed" if isinstance(error, KeyboardInterrupt) else "failed"


def _has_run(results: Mapping[str, StepResult]) -> bool:
    """Whether a step has begun, however it ended."""
    return any(result.status in ("ran", "failed", "killed") for result in results.values())


def _handed_over(results: Mapping[str, StepResult]) -> list[str]:
    """The outputs of the steps that were cached."""
    cached = [result for result in results.values() if result.status == "cached"]
    return [f"{one['name']}:{one['version']}" for result in cached for one in result.outputs]


def _summary(results: Mapping[str, StepResult], error: BaseException | None) -> dict[str, str]:
    """How the run and each step ended, and where the step's own run is."""
    told = {"status": _state(error)}
    for step, result in results.items():
        told[f"{STATUS_OF}{step}"] = result.status
        if where := result.tracker_url or result.tracker_run:
            told[f"{RUN_OF}{step}"] = where
    return told
