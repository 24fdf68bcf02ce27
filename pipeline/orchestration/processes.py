"""The processes below this one, and their end: after Ctrl-C, or when they take too long."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pipeline.core import settings
from pipeline.core.files import write_whole

if TYPE_CHECKING:
    import psutil

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


_adopted: list["psutil.Process"] = []


def adopt(child: "psutil.Process") -> None:
    """Let :func:`end_children` end a process that works for this one, and is another's child."""
    _adopted[:] = [child, *(process for process in _adopted if process.is_running())]


def end_children() -> None:
    """End all processes below this one."""
    import psutil

    end(*psutil.Process().children(), *_adopted)


def end(*roots: "psutil.Process") -> None:
    """End processes and all below them: asked first, killed after the grace."""
    import psutil

    running = set()
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            running |= {root, *root.children(recursive=True)}
    for process in running:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(running, timeout=GRACE)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=1)


# What a marker tells beside its process
MLFLOW_RUN, TEMPORARY, STORE = "mlflow_run", "temporary", "mlflow_store"


def markers() -> Iterator[Path]:
    """The marker of each run that is under way on this machine, or was when it was killed."""
    return _folder().glob("*.json")


def dead() -> Iterator[tuple[Path, dict[str, Any]]]:
    """The markers of runs that were killed on this machine, and whose MLflow is the one in use."""
    for marker in markers():
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            told = json.loads(marker.read_text(encoding="utf-8"))
            here = is_here(told) and told.get(STORE, _store()) == _store()
            if here and not is_alive(told):
                yield marker, told


def _store() -> str:
    """What tells MLflow's store from another; an address may hold a password."""
    return hashlib.sha256(settings.tracking_uri().encode()).hexdigest()


def _folder() -> Path:
    return settings.state_dir() / "running"


def system_temporary_folder() -> Path:
    """That of no run, for what runs have in common."""
    return Path(os.environ.get(settings.SYSTEM_TMPDIR) or tempfile.gettempdir())


class Marker:
    """The marker of this process's run.

    Args:
        id: the run's; what another process has noted under it is replaced.
    """

    def __init__(self, id: str):
        self.path = _folder() / f"{id}.json"

    def note(self, **told: Any) -> None:
        """Write down more of what the run is."""
        import psutil

        started = psutil.Process().create_time()  # tells a later process with the same number
        process = {"pid": os.getpid(), "started": started, "host": socket.gethostname()}
        process[STORE] = _store()
        before = self._read() or {}
        if process.items() <= before.items():
            told = before | told
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps(told | process))

    def _read(self) -> dict[str, Any] | None:
        if not self.path.is_file():
            return None
        return json.loads(self.path.read_text(encoding="utf-8"))

    def remove(self) -> None:
        """The run is over."""
        self.path.unlink(missing_ok=True)

    def is_alive(self) -> bool:
        """Whether the process that wrote it is there, on this machine."""
        told = self._read()
        return told is not None and is_here(told) and is_alive(told)


class Temporary:
    """A folder for the temporary files of a run: of this process and of all that it starts.

    That of a trial is in the one of its sweep.

    Args:
        marker: where it is noted, before it is made.
    """

    def __init__(self, marker: Marker):
        self._marker = marker
        self._path: Path | None = None
        self._variable: str | None = None

    def begin(self) -> None:
        """Make the folder, and use it from now on."""
        if self._path:
            return
        outer = tempfile.gettempdir()
        os.environ.setdefault(settings.SYSTEM_TMPDIR, outer)
        path = Path(outer, f"pipeline-{secrets.token_hex(4)}")  # sockets in it need a short path
        self._marker.note(**{TEMPORARY: str(path)})
        path.mkdir(mode=0o700)
        self._path, self._variable = path, os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = tempfile.tempdir = str(path)

    def end(self, recorded: bool = True) -> None:
        """Remove the folder, and the marker of a run whose end could be recorded."""
        if not self._path:
            return
        tempfile.tempdir = str(self._path.parent)
        os.environ.pop("TMPDIR", None)
        if self._variable is not None:
            os.environ["TMPDIR"] = self._variable
        shutil.rmtree(self._path, ignore_errors=True)
        if recorded:
            self._marker.remove()
        self._path = None


def is_here(told: Mapping[str, Any]) -> bool:
    """Whether a marker is of a process on this machine."""
    return told["host"] == socket.gethostname()


def is_alive(told: Mapping[str, Any]) -> bool:
    """Whether the process of a marker is there."""
    import psutil

    try:
        return abs(psutil.Process(told["pid"]).create_time() - told["started"]) < 1
    except psutil.NoSuchProcess:
        return False
