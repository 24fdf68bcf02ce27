"""The exception that users see: what failed, and what to do next."""

import difflib
import errno
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Iterable

from pipeline.core.text import say

INTERRUPTED = 130  # a shell's exit status after Ctrl-C
READER_GONE = 141  # a shell's exit status after SIGPIPE


def interrupt_on_signals() -> None:
    """Raise KeyboardInterrupt on every signal to end, not on Ctrl-C alone."""
    for number in ending_signals():
        signal.signal(number, signal.default_int_handler)


def interrupt_once() -> None:
    """Raise KeyboardInterrupt on the first signal to end, and ignore later ones.

    So the run can end as killed in the tracker. Does nothing outside of the main thread, which
    alone gets signals.
    """

    def stop(*_: object) -> None:
        for number in ending_signals():
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in ending_signals():
            signal.signal(number, stop)


def ending_signals() -> list[signal.Signals]:
    """The signals that ask a program to end; without SIGHUP if it is ignored, as under nohup."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangs_up = getattr(signal, "SIGHUP", None)
    if hangs_up and signal.getsignal(hangs_up) != signal.SIG_IGN:
        numbers.append(hangs_up)
    return numbers


def output_closed(error: Exception) -> bool:
    """Whether the reader of standard output has closed it, as ``| head`` does."""
    if not isinstance(error, BrokenPipeError):
        return False
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0))


def discard_output() -> int:
    """Discard all further output, and return the exit status."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return READER_GONE


class PipelineError(Exception):
    """A failure the user can act on.

    Args:
        what: what failed and the value that caused it, in a sentence or a few lines.
        remedy: what to do next.
    """

    def __init__(self, what: str, remedy: str = ""):
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}".rstrip()


def as_pipeline_error(error: Exception, state: object) -> PipelineError | None:
    """The error as one that a user can act on; None for a bug of the pipeline.

    Args:
        error: any exception.
        state: the state folder, for the message.
    """
    if isinstance(error, PipelineError):
        return error
    return file_error(error) if isinstance(error, OSError) else database_error(error, state)


def file_error(error: OSError) -> PipelineError:
    """The error for a file that can't be read or written, with its remedy."""
    place = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PipelineError(
            f"the disk is full{':' if place else ''}{place}",
            "free some space (python -m pipeline gc --keep 10 shows what can go) and run the same "
            "again: steps that have finished are kept",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "check its owner and permissions, or choose another main.state_dir"
        return PipelineError(f"no permission:{place} ({error.strerror})", remedy)
    return PipelineError(str(error), "check the disk and its permissions, and run again")


def database_error(error: Exception, state: object) -> PipelineError | None:
    """The error for a database failure of SQLite, SQLAlchemy or MLflow; None for other errors."""
    if type(error).__module__.partition(".")[0] not in ("sqlite3", "sqlalchemy", "mlflow"):
        return None
    message = str(error)
    if re.search("disk is full|no space left", message, re.IGNORECASE):
        return file_error(OSError(errno.ENOSPC, "", str(state)))
    message = message.partition("\n")[0][:300]
    return PipelineError(
        f"a database in {state} can't be used: {message}",
        "restore it from a copy; python -m pipeline verify says what else is damaged, and make "
        "clean begins anew",
    )


def report_error(error: Exception) -> None:
    """Print an error in a few lines on standard error."""
    say(f"error: {error}".replace("\n", "\n  "), file=sys.stderr)


def unknown_value(setting: str, value: object, choices: Iterable[str]) -> PipelineError:
    """The error for a setting whose value is none of its choices."""
    names = [*choices]
    return PipelineError(
        f"unknown {setting}={value!r}{did_you_mean(str(value), names)}",
        f"use one of: {', '.join(names)}",
    )


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the nearest of ``options``, or an empty string."""
    near = difflib.get_close_matches(
        str(word), [str(option) for option in options], n=1, cutoff=0.6
    )
    return f" (did you mean {near[0]!r}?)" if near else ""
