"""The one exception a user is meant to see: what failed, and what to do next."""

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

INTERRUPTED = 130  # the exit status after Ctrl-C, in a shell
READER_GONE = 141  # the same of a program whose output nobody reads any more


def end_like_ctrl_c() -> None:
    """From now on whoever asks this program to end does what Ctrl-C does."""
    for asked in ending_signals():
        signal.signal(asked, signal.default_int_handler)


def end_once() -> None:
    """From now on the first signal to end does what Ctrl-C does, and others are ignored.

    So the run in the tracker can be ended as killed. In a thread nothing is changed: the main
    thread gets the signals.
    """

    def stop(*_: object) -> None:
        for asked in ending_signals():
            signal.signal(asked, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for asked in ending_signals():
            signal.signal(asked, stop)


def ending_signals() -> list[signal.Signals]:
    """The signals by which a program is asked to end; SIGHUP only where nobody has it ignored."""
    asked = [signal.SIGINT, signal.SIGTERM]
    hangs_up = getattr(signal, "SIGHUP", None)
    if hangs_up and signal.getsignal(hangs_up) != signal.SIG_IGN:  # nohup does
        asked.append(hangs_up)
    return asked


def reader_gone(error: Exception) -> bool:
    """Whether a program can't go on because nobody reads its output any more (``| head``)."""
    if not isinstance(error, BrokenPipeError):
        return False
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in output.poll(0))


def leave_pipe() -> int:
    """Say nothing more, as nobody reads the output any more; the exit status."""
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
    """A failure that a user can act on, whoever raised it; None for what is ours to mend.

    Args:
        error: the failure.
        state: the state folder, for the message.
    """
    if isinstance(error, PipelineError):
        return error
    return file_error(error) if isinstance(error, OSError) else database_error(error, state)


def file_error(error: OSError) -> PipelineError:
    """A failure to read or write a file, in terms of what to do about it."""
    place = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PipelineError(
            f"the disk is full{':' if place else ''}{place}",
            "free some space (python -m pipeline gc --keep 10 shows what can go) and run the same "
            "again: steps that have finished are kept",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "check whose it is, and its permissions; or choose another main.state_dir"
        return PipelineError(f"no permission:{place} ({error.strerror})", remedy)
    return PipelineError(str(error), "check the disk and its permissions, and run again")


def database_error(error: Exception, state: object) -> PipelineError | None:
    """A database that can't be used, as SQLite, SQLAlchemy or MLflow say it; None for the rest."""
    if type(error).__module__.partition(".")[0] not in ("sqlite3", "sqlalchemy", "mlflow"):
        return None
    what = str(error)
    if re.search("disk is full|no space left", what, re.IGNORECASE):
        return file_error(OSError(errno.ENOSPC, "", str(state)))
    what = what.partition("\n")[0][:300]
    return PipelineError(
        f"a database in {state} can't be used: {what}",
        "restore it from a copy; python -m pipeline verify says what else is damaged, and make "
        "clean begins anew",
    )


def report_error(error: Exception) -> None:
    """Print an error in a few lines on standard error."""
    say(f"error: {error}".replace("\n", "\n  "), file=sys.stderr)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the nearest of ``known``, or an empty string."""
    near = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
