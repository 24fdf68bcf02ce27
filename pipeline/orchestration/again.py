"""``python main.py``: from memory where it has run before and nothing has changed, else by Hydra.

The same command begins with the configuration that it had (:mod:`pipeline.commands`), and without
Hydra. As soon as a step can't be handed on this is given up, before anything has been shown or
recorded, and Hydra begins anew.
"""

import functools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pipeline.config.job import Job, new_run_id
from pipeline.core.errors import INTERRUPTED, PipelineError
from pipeline.core.files import write_whole
from pipeline.core.results import Reference, StepResult
from pipeline.orchestration import commands, processes, run


class Changed(Exception):
    """A step can't be handed on."""


class Repeated(run.Pipeline):
    """A run that runs nothing; what it came to is shown and recorded at its end.

    Raises:
        Changed: something would have to be run, or looked for elsewhere.
    """

    def _pinned(self, step: str, value: Any) -> Any:
        if isinstance(value, Reference) and not value.known:
            raise Changed
        return value

    def _prepare(self, step: str) -> NoReturn:
        raise Changed

    def _drop(self, result: StepResult, problems: object) -> NoReturn:
        raise Changed

    def _execute(self, *_: object) -> NoReturn:
        raise Changed

    def _show(self, result: StepResult) -> None:
        """Not yet."""

    def __enter__(self) -> "Repeated":
        if any(processes.dead()):
            raise Changed  # somebody has to tidy up after them
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.folder.mkdir(parents=True)
            self._record("FINISHED", None)
            with self.screen:
                for result in self.results.values():
                    super()._show(result)
            self._show_result()
        self.screen.close()


def main(**options: Any) -> Callable[[Callable], Callable]:
    """Make a function the program's main function; takes what ``hydra.main`` takes.

    Called with a configuration it is the function that it was.
    """

    def decorate(go: Callable) -> Callable:
        @functools.wraps(go)
        def command(config: Any = None) -> Any:
            if config is not None:
                return go(config)
            place = commands.place(sys.argv[1:])
            if not again(go, place):
                import hydra

                from pipeline.config import entry

                run.command = place
                entry.main(hydra.main(**options)(go))
            return None

        return command

    return decorate


def again(go: Callable, place: Path | None) -> bool:
    """Do what a command did before, if every step of it can be handed on; whether they could."""
    try:
        command = commands.recall(place)
    except OSError:
        return False
    if command is None:
        return False
    environment = dict(os.environ)
    state = Path(command.config.main.state_dir).absolute()
    job = Job(state / "runs" / new_run_id(), command.overrides)
    try:
        with Repeated(command.config, job) as run, run.standing_in(run):
            go(command.config)
        for name, text in command.files.items():
            file = job.folder / "config" / name
            file.parent.mkdir(exist_ok=True)
            write_whole(file, text.replace(command.run, job.id))
    except (Changed, PipelineError, OSError):  # an error is told when it comes up again
        shutil.rmtree(job.folder, ignore_errors=True)  # half a record, on a full disk perhaps
        os.environ.clear()
        os.environ.update(environment)
        return False
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    return True
