"""Starts a run of the pipeline for ``main.py``, or an explanation of a run."""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline.cache.finished import Lock
from pipeline.config import references
from pipeline.config.job import current_job
from pipeline.core.errors import PipelineError, discard_output, output_closed
from pipeline.orchestration.execution import processes
from pipeline.orchestration.run import Pipeline
from pipeline.tracking import RequestedRun

if TYPE_CHECKING:
    from omegaconf import DictConfig

_stand_in: ContextVar[Any] = ContextVar("stand_in", default=None)
_lock: ContextVar[Lock] = ContextVar("lock", default=FileLock)


@contextlib.contextmanager
def start(config: "DictConfig") -> Iterator[Pipeline]:
    """Begin a run of the pipeline; calling the yielded object runs a step.

    Args:
        config: the composed configuration.

    Raises:
        SystemExit: the run failed; its cause is the error, such as an invalid setting.
        PipelineError: the same, in a trial of a sweep.
    """
    if stand_in := _stand_in.get():
        yield stand_in
        return
    from pipeline.config.checks import check, resolve_data_path

    job = current_job()
    try:
        references.protect(config)
        resolve_data_path(config)
        requested = RequestedRun() if job.sweep else RequestedRun.of(os.environ)
        check(config, job.sweep or bool(requested.sweep))
        kind = Pipeline
        if config.main.explain:
            from pipeline.orchestration.explain import Explanation

            kind = Explanation
        with processes.interruptible(), kind(config, job, requested, _lock.get()) as run:
            yield run
    except PipelineError as error:
        if job.sweep:
            raise  # the sweep records a trial's failure
        _remove_unused(job.folder, Path(config.main.state_dir, "runs").absolute())
        raise SystemExit(1) from error  # or Hydra would log the error in its own way
    except BrokenPipeError as error:
        if not output_closed(error):
            raise
        raise SystemExit(discard_output()) from error


def _remove_unused(folder: Path, runs: Path) -> None:
    """Remove the folder that Hydra made for a run, if the run wrote nothing into it."""
    with contextlib.suppress(OSError):
        files = list(folder.iterdir())
        is_unused = folder.parent == runs and [file.name for file in files] == ["main.log"]
        if is_unused and not files[0].lstat().st_size:
            files[0].unlink()
            folder.rmdir()


@contextlib.contextmanager
def standing_in(recorder: Any) -> Iterator[None]:
    """Let :func:`start` yield ``recorder`` instead of a run, to see which steps ``go()`` calls."""
    token = _stand_in.set(recorder)
    try:
        yield
    finally:
        _stand_in.reset(token)


@contextlib.contextmanager
def locking_with(lock: Lock) -> Iterator[None]:
    """Let the runs that :func:`start` begins lock their steps with ``lock``."""
    token = _lock.set(lock)
    try:
        yield
    finally:
        _lock.reset(token)
