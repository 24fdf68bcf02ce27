"""Quicker starts and ends of a process that imports large libraries.

Importing them makes hundreds of thousands of objects that live until the end. The garbage
collector goes through them over and over while they are made, and once more at exit: a third of
the processor time of a process that only imports mlflow and scikit-learn.

A step's script may also have been started before its turn; see :mod:`pipeline.standby`.
"""

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline.core import settings

TAKEN = b"+"  # what the one in standby answers to the one whose work it takes over
KILLED = 137  # the exit status of a process that was killed, in a shell


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Collect no garbage meanwhile, and never look at what an import made meanwhile."""
    known = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if len(sys.modules) > known:
            gc.freeze()


def begin(name: str) -> None:
    """A step's script begins: collect no garbage until :func:`imported`.

    Does not return where another process that has the imports behind it takes over.

    Args:
        name: the script's ``__name__``; nothing is done where it is imported by another.
    """
    if name != "__main__":
        return
    gc.disable()
    address = os.environ.pop(settings.STANDBY, None)
    if address and settings.STANDBY_LISTENER not in os.environ:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            _hand_over(connection)


def imported() -> None:
    """The imports are done."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)  # nothing is searched for garbage that all goes at once


def _hand_over(connection: socket.socket) -> None:
    """Give this process's work away, and end as it ends; returns if nobody takes it."""
    told = {"argv": sys.argv, "environment": dict(os.environ), "folder": str(Path.cwd())}
    text = json.dumps(told).encode()
    socket.send_fds(connection, [len(text).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(text)
    if connection.recv(1) != TAKEN:
        return
    try:
        status = connection.recv(16)
    except KeyboardInterrupt:
        status = b"130"
    except OSError:  # it was killed
        status = b""
    os._exit(int(status or KILLED))


@contextlib.contextmanager
def turn(prepare: Callable[[], None]) -> Iterator[None]:
    """Run a script's work at once, or in standby: when its turn comes, for whoever asks.

    In standby each turn is a child's, which begins with all that has been imported; the exit status
    goes to the one who asked, once all has been printed.

    Args:
        prepare: what can be done before, in standby.
    """
    listener = os.environ.pop(settings.STANDBY_LISTENER, None)
    if not listener:
        yield
        return
    prepare()
    connection = _wait_for_turn(socket.socket(fileno=int(listener)))
    done = threading.Event()
    threading.Thread(target=_end_with, args=[connection, done], daemon=True).start()
    status = 1
    try:
        yield
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:  # told, as Python would, before the other one is
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    done.set()
    with contextlib.suppress(OSError):
        connection.sendall(str(status).encode())
    _leave_in_order(status)


def _wait_for_turn(server: socket.socket) -> socket.socket:
    """Wait for those to take over from; returns in a child of this process, for each of them."""
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        connection = _next(server)
        if not _forks() or _in_child():
            break
        connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server.close()
    _take_over(connection)
    return connection


def _forks() -> bool:
    """Whether a child can go on with what is in memory here; else this process takes one turn.

    Other threads would be missing there, and Apple's libraries refuse to work.
    """
    return sys.platform == "linux" and threading.active_count() == 1


def _reap(number: int, frame: FrameType | None) -> None:
    """Let children that have ended go; how they ended is known to those who asked."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _in_child() -> bool:
    """Fork; whether this is the child."""
    try:
        return os.fork() == 0
    except OSError:  # no memory, perhaps: the one who asks does the work
        return False


def _next(server: socket.socket) -> socket.socket:
    """The next one to take over from; ends with the orchestrator, after the turns under way."""
    with contextlib.suppress(KeyboardInterrupt):
        ready, _, _ = select.select([server, 0], [], [])
        if ready == [server]:  # the input's end goes first: then nobody waits for an answer
            return server.accept()[0]
    with contextlib.suppress(ChildProcessError, KeyboardInterrupt):
        while True:
            os.wait()
    with contextlib.suppress(OSError):
        address = Path(server.getsockname())
        address.unlink()
        address.parent.rmdir()
    _leave()


def _take_over(connection: socket.socket) -> None:
    """Become the one who asks: its arguments, environment, folder, input and output."""
    header, places, _, _ = socket.recv_fds(connection, 8, 3)
    length, text = int.from_bytes(header, "big"), b""
    while len(text) < length:
        part = connection.recv(length - len(text))
        if not part:
            _leave()
        text += part
    told = json.loads(text)
    for place, target in zip(places, (0, 1, 2), strict=True):
        os.dup2(place, target)
        os.close(place)
    os.environ.clear()
    os.environ.update(told["environment"])
    os.chdir(told["folder"])
    sys.argv[:] = told["argv"]
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # TMPDIR says where
    if "numpy.random" in sys.modules:  # seeded when it was imported: all turns would draw the same
        sys.modules["numpy.random"].seed()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and "threadpoolctl" in sys.modules:  # known to those loaded by now
        sys.modules["threadpoolctl"].threadpool_limits(int(threads))
    connection.sendall(TAKEN)


def _end_with(connection: socket.socket, done: threading.Event) -> None:
    """End when the process that was taken over from is gone: nobody would take the result."""
    with contextlib.suppress(OSError):
        connection.recv(1)  # nothing ever comes; it ends when the other end does
    if not done.is_set():
        _leave()


def _leave_in_order(status: int) -> NoReturn:
    """End as :mod:`multiprocessing` lets a child end: all is done but the freeing of memory.

    That would copy what a child shares with the one in standby, only to free it.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    os._exit(status)


def _leave() -> NoReturn:
    os._exit(1)
