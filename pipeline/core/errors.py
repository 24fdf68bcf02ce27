"""The one exception a user is meant to see: what failed, and what to do next."""

import difflib
import signal
import sys
from collections.abc import Iterable

INTERRUPTED = 130  # the exit status after Ctrl-C, in a shell


def ending_signals() -> list[signal.Signals]:
    """The signals by which a program is asked to end; SIGHUP only where nobody has it ignored."""
    asked = [signal.SIGINT, signal.SIGTERM]
    hangs_up = getattr(signal, "SIGHUP", None)
    if hangs_up and signal.getsignal(hangs_up) != signal.SIG_IGN:  # nohup does
        asked.append(hangs_up)
    return asked


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


def report_error(error: Exception) -> None:
    """Print an error in a few lines on standard error."""
    print(f"error: {error}".replace("\n", "\n  "), file=sys.stderr)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the nearest of ``known``, or an empty string."""
    near = difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
