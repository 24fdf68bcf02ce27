"""Ends a step when its orchestrator dies."""

import os
import threading
from pathlib import Path
from typing import NoReturn


def open_lifeline(path: Path) -> int:
    """A pipe that this process holds open as long as it lives, for its steps to listen at."""
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR)


def end_with_orchestrator(lifeline: str) -> None:
    """End this step, now or later, when the orchestrator is gone: nobody would take its result.

    Args:
        lifeline: a pipe that the orchestrator holds open as long as it lives.
    """
    try:
        pipe = os.open(lifeline, os.O_RDONLY | os.O_NONBLOCK)  # else it waits for a writer
        os.read(pipe, 1)
    except BlockingIOError:  # there is one: the orchestrator lives
        os.set_blocking(pipe, True)
        threading.Thread(target=_end_after, args=[pipe], daemon=True).start()
        return
    except FileNotFoundError:
        pass  # gone already
    os._exit(1)


def _end_after(pipe: int) -> NoReturn:
    os.read(pipe, 1)  # nothing ever comes; it ends when the other end does
    os._exit(1)
