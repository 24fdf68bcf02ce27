"""The processes below this one, and their end: after Ctrl-C, or when they take too long."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130  # the exit status after Ctrl-C, in a shell
GRACE = 3.0  # seconds that a process has to end by itself


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """On Ctrl-C or SIGTERM, end every process below this one, then raise KeyboardInterrupt."""

    def stop(number: int, frame: FrameType | None) -> None:
        end_children()
        raise KeyboardInterrupt

    try:
        before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever started us gets the signals
        yield
        return
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[threading.Event]:
    """End what runs below this process after so many seconds; the event tells that it was so."""
    over, late = threading.Event(), threading.Event()

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):  # what is started after the end is ended too
            late.set()
            end_children()
            wait = 0.2

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield late
    finally:
        over.set()
        watcher.join()


def end_children() -> None:
    """End all processes below this one: asked first, killed after the grace."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    _, alive = psutil.wait_procs(children, timeout=GRACE)
    for child in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(alive, timeout=1)
