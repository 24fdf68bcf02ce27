"""The pipeline's own run in the tracker, beside the runs of its steps."""

import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.core.results import StepResult
from pipeline.steps.context import StepContext
from pipeline.tracking import RequestedRun, Tracker, TrackerRun
from pipeline.tracking.interface import PIPELINE, RUN_OF, STATUS_OF


class TrackedRun:
    """The tracker run with the pipeline's configuration and the results of its steps.

    In W&B it is open from the first step to the end, so it is visible, has a state and can be
    found by a sweep's agent; it exists even if all results were reused. In Trackio it is written at
    the end, and only if a step ran and the run was not stopped: Trackio has no states, and its
    import takes longer than a run without changes. In Trackio a trial has no run beside its
    sweep's.

    Args:
        tracker: the tracker's project.
        config: the recorded configuration.
        named: the W&B run and sweep that the environment names, if any.
        trial: whether the run is a trial of a sweep.
        alert: whether a failed run sends an alert through the tracker.
        warn: shows a warning.
    """

    def __init__(
        self,
        tracker: Tracker,
        config: Mapping[str, Any],
        requested: RequestedRun,
        trial: bool,
        alert: bool,
        warn: Callable[[str], None],
    ):
        self._tracker, self._config, self._requested, self._warn = tracker, config, requested, warn
        self._trial, self._alert = trial, alert
        self._run: TrackerRun | None = None

    @property
    def url(self) -> str | None:
        """The run's page, if it is open and the tracker has a server."""
        return self._run.url if self._run else None

    def begin(self, context: StepContext) -> None:
        """Open the run in W&B, unless it is open.

        Raises:
            PipelineError: the server refuses it.
        """
        if self._run is None and self._tracker.kind == "wandb":
            self._run = self._open(context)

    def _open(self, context: StepContext) -> TrackerRun:
        return self._tracker.open_run(
            job_type=PIPELINE,
            name=f"{PIPELINE}-{context.run_id}",
            config={**self._config, **self._requested.parameters, **context.labels()},
            requested=self._requested,
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
        """Record the results of the steps, and end the run.

        A tracker that refuses this is only a warning, because the results are recorded elsewhere
        too. For example, the user may have deleted the run.
        """
        if self._run is None and not self._is_written_late(results, error):
            return
        with contextlib.redirect_stdout(io.StringIO()):  # hides Trackio's messages
            try:
                run = self._run or self._open(context)
                with contextlib.ExitStack() as on_failure:
                    on_failure.push(lambda _, stopped, __: run.finish(True, error or stopped))
                    if error is None:
                        for reference in _reused_outputs(results):
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
        """Whether a run that was not open before is written at the end."""
        stopped = _state(error) == "killed"  # then the user does not wait for an import
        return self._tracker.kind != "wandb" and not (self._trial or stopped) and _has_run(results)


def _state(error: BaseException | None) -> str:
    """How a run ended: finished, failed, or killed (stopped by a user or a signal)."""
    if error is None:
        return "finished"
    return "killed" if isinstance(error, KeyboardInterrupt) else "failed"


def _has_run(results: Mapping[str, StepResult]) -> bool:
    """Whether a step has begun, however it ended."""
    return any(result.status in ("ran", "failed", "killed") for result in results.values())


def _reused_outputs(results: Mapping[str, StepResult]) -> list[str]:
    """The outputs of cached steps."""
    cached = [result for result in results.values() if result.status == "cached"]
    return [
        f"{output['name']}:{output['version']}" for result in cached for output in result.outputs
    ]


def _summary(results: Mapping[str, StepResult], error: BaseException | None) -> dict[str, str]:
    """The status of the run and of each step, and the step's own run."""
    values = {"status": _state(error)}
    for step, result in results.items():
        values[f"{STATUS_OF}{step}"] = result.status
        if run := result.tracker_url or result.tracker_run:
            values[f"{RUN_OF}{step}"] = run
    return values
