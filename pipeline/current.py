"""The run of the pipeline that this process is at: what ``main.py`` calls.

``start`` begins it, ``run`` brings a step to its result, ``within`` limits a step's time.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import commands, job, processes, startup
from pipeline.cache import StepResult
from pipeline.errors import PipelineError
from pipeline.runner import Pipeline

if TYPE_CHECKING:
    from omegaconf import DictConfig

_current: Pipeline | None = None
command: Path | None = None  # where the command that is being carried out is to be kept


@contextlib.contextmanager
def start(config: "DictConfig") -> Iterator[Pipeline]:
    """Begin a run of the pipeline with a resolved configuration; :func:`run` belongs to it.

    Raises:
        PipelineError: a setting that can't work, before anything is run.
    """
    global _current
    startup.imported()
    if _current is not None:  # somebody stands in, who runs nothing
        yield _current
        return
    from pipeline import config as configuration

    this = job.current()
    try:
        configuration.check(config, this.sweep)
        with processes.interruptible(), Pipeline(config, this) as _current:
            yield _current
        if not (this.sweep or config.main.explain):
            commands.keep(command, config, this)
    except PipelineError as error:
        if this.sweep:
            raise  # a trial's failure is the sweep's to record
        raise SystemExit(1) from error  # past Hydra, which would tell it in its own way
    finally:
        _current = None


@contextlib.contextmanager
def standing_in(recorder: Any) -> Iterator[None]:
    """Let something else answer :func:`run`, in order to see which steps are asked for."""
    global _current
    _current = recorder
    try:
        yield
    finally:
        _current = None


def run(step: str, **parameters: Any) -> StepResult:
    """Bring a step to its result; that names the exact versions it produced.

    A step that was finished before with the same code, environment, parameters and inputs is not
    run again: its outputs are handed on.

    Raises:
        PipelineError: the step failed; the message is its own, or the end of its log.
    """
    if _current is None:
        raise RuntimeError("pipeline.run() outside of `with pipeline.start(config):`")
    return _current.run(step, parameters)


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Give up the step that runs in this block after so many seconds; None waits for ever.

    Raises:
        PipelineError: it ran out of time; its processes are gone.
    """
    if not seconds or not isinstance(_current, Pipeline):  # or nothing is run
        yield
        return
    try:
        with processes.limited(seconds) as late:
            yield
    except PipelineError as error:
        if not late.is_set():
            raise
        raise PipelineError(
            f"{_current.running} ran out of time after {seconds:g} s (model.timeout)",
            f"give it more, or less to do: model.timeout={2 * seconds:g}",
        ) from error
