"""The processes below this one, and their end: after Ctrl-C, or when they take too long."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from pipeline.core import settings, variables
from pipeline.core.errors import ending_signals
from pipeline.core.files import write_whole
from pipeline.core.text import say
from pipeline.orchestration.execution import watcher
from pipeline.tracking.mlflow import retries as mlflow_retries

if TYPE_CHECKING:
    import psutil

GRACE = 3.0  # seconds that a process has to end by itself
SERVICE, SERVICE_GRACE = "wandb-core", 0.5
TIDYING = 60.0  # seconds that another start may take to tidy up after a run
REMOVALS = 3  # of a folder in which something appears meanwhile
NAME = re.compile("pipeline-[0-9a-f]{8}")  # of a run's temporary folder


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """On a signal to end, Ctrl-C's or another, end all below this process; KeyboardInterrupt."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        variables.set_variables(mlflow_retries.ONCE)  # whoever stops a run does not wait for long
        end_children()
        raise KeyboardInterrupt

    try:
        before = {name: signal.signal(name, stop) for name in ending_signals()}
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


def launch(code: Path, words: Iterable[str], variables: Mapping[str, str]) -> int:
    """Run ``main.py`` of some code to its end; its exit status.

    Raises:
        KeyboardInterrupt: we were asked to stop, and so was it.
    """
    command = [sys.executable, str(code / "main.py"), *words]
    # In a session of its own, so that Ctrl-C reaches it once: through us.
    process = subprocess.Popen(command, env=dict(variables), start_new_session=True)

    def stop(_number: int, _frame: FrameType | None) -> None:
        process.send_signal(signal.SIGINT)

    asked = ending_signals()
    before = {number: signal.signal(number, stop) for number in asked}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status == 130:
        raise KeyboardInterrupt
    return status


_adopted: list["psutil.Process"] = []


def adopt(child: "psutil.Process") -> None:
    """Let :func:`end_children` end a process that works for this one, and is another's child."""
    _adopted[:] = [child, *(process for process in _adopted if process.is_running())]


def end_children() -> None:
    """End all processes below this one, but for its watcher and its tracker's service."""
    import psutil

    children = psutil.Process().children()
    kept = (watcher.is_watcher, _is_service)
    end(*(child for child in children if not any(test(child) for test in kept)), *_adopted)


def end(*roots: "psutil.Process") -> None:
    """End processes and all below them: asked first, killed after the grace.

    A tracker's service is ended after the process that it works for, whose run it has to end.
    """
    import psutil

    running = set()
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            running |= {root, *root.children(recursive=True)}
    services = {process for process in running if _is_service(process)}
    for processes, grace in ((running - services, GRACE), (services, SERVICE_GRACE)):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=grace)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=1)


def _is_service(process: "psutil.Process") -> bool:
    """Whether a process is W&B's, which sends the data of the process that has started it."""
    import psutil

    try:
        return process.name() == SERVICE
    except psutil.Error:  # it has ended
        return False


# What the marker of a run names
HOST, MLFLOW_RUN, TEMPORARY, STORE = "host", "mlflow_run", "temporary", "mlflow_store"


class Marker:
    """The files of a run under way: a lock that its process holds, and what to tidy up after it.

    However the process ends, the system releases the lock.

    Args:
        id: the run's; what an earlier process has noted under it is replaced.
    """

    def __init__(self, id: str):
        self.id = id
        self.path = _folder() / f"{id}.json"
        self._lock = FileLock(self.path.with_suffix(".lock"), thread_local=False)
        self._noted: dict[str, str] = {}

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """A copy in another process does not hold the lock."""
        return Marker, (self.id,)

    def note(self, **values: str) -> None:
        """Write down more of what the run uses; the first note takes the lock."""
        self.hold()
        self._noted |= {HOST: socket.gethostname(), STORE: _store(), **values}
        write_whole(self.path, json.dumps(self._noted))

    def hold(self) -> None:
        """Take the lock, until the process ends or :meth:`remove`."""
        if not self._lock.is_locked:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=TIDYING)

    @property
    def is_held(self) -> bool:
        """Whether this process holds the lock."""
        return self._lock.is_locked

    def read(self) -> dict[str, str]:
        """What is noted; nothing, and a warning, if the file is damaged."""
        try:
            noted = json.loads(self.path.read_text(encoding="utf-8"))
            return {HOST: noted[HOST], **{k: v for k, v in noted.items() if isinstance(v, str)}}
        except FileNotFoundError:  # the run has ended
            return {}
        except (OSError, ValueError, TypeError, LookupError) as error:
            self._warn(error)
            return {}

    def claim(self) -> bool:
        """Take the lock, if no process holds it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            self._warn(error)
            return False
        return True

    def _warn(self, error: Exception) -> None:
        say(f"warning: {self.path} is ignored: {type(error).__name__}: {error}", file=sys.stderr)

    def is_alive(self) -> bool:
        """Whether the run's process is there."""
        return self.path.is_file() and not self.is_free()

    def is_free(self) -> bool:
        """Whether no process holds the lock."""
        if not self.claim():
            return False
        self.release()
        return True

    def release(self) -> None:
        """Leave what is noted to the next start."""
        self._lock.release()

    def remove(self) -> None:
        """Remove all files of a run that is over; this process holds the lock."""
        for path in sorted(self.path.parent.glob(f"{self.id}.*")):  # the lock is the last
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
        self.release()


def killed_runs() -> Iterator[tuple[Marker, dict[str, str]]]:
    """The markers of runs that were killed on this machine, and whose MLflow is the one in use.

    Each is locked meanwhile, so that no other start tidies up after the same run.
    """
    for id in sorted({path.name.partition(".")[0] for path in _folder().glob("*")}):
        marker = Marker(id)
        if not marker.claim():
            continue
        try:
            noted = marker.read()
            if not noted:
                marker.remove()
            elif noted[HOST] == socket.gethostname() and noted.get(STORE, _store()) == _store():
                yield marker, noted
        finally:
            marker.release()


def active_runs() -> list[str]:
    """The ids of the runs that are under way with this state folder, wherever they are kept."""
    ids = {path.name.partition(".")[0] for path in _folder().glob("*.lock")}
    return sorted(id for id in ids if not Marker(id).is_free())


def _store() -> str:
    """What tells MLflow's store from another; an address may hold a password."""
    return hashlib.sha256(settings.tracking_uri().encode()).hexdigest()


def _folder() -> Path:
    return settings.state_dir() / "running"


def system_temporary_folder() -> Path:
    """That of no run, for what runs have in common."""
    return Path(os.environ.get(settings.SYSTEM_TMPDIR) or tempfile.gettempdir())


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
        self._watcher: subprocess.Popen | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process has no watcher to stop."""
        return {**vars(self), "_watcher": None}

    def begin(self) -> None:
        """Make the folder, and use it from now on."""
        if self._path:
            return
        outer = tempfile.gettempdir()
        variables.set_defaults({settings.SYSTEM_TMPDIR: outer})
        self._marker.hold()
        if before := self._marker.read().get(
            TEMPORARY
        ):  # of a trial that was killed, and runs again
            remove_temporary(Path(before))
        path = Path(outer, f"pipeline-{secrets.token_hex(4)}")  # sockets in it need a short path
        self._marker.note(**{TEMPORARY: str(path)})
        path.mkdir(mode=0o700)
        if not NAME.fullmatch(Path(outer).name):  # a trial is watched with its sweep
            self._watcher = watcher.start(path)
        self._path, self._variable = path, os.environ.get("TMPDIR")
        tempfile.tempdir = str(path)
        variables.set_variables({"TMPDIR": tempfile.tempdir})

    def end(self, recorded: bool = True, interrupted: bool = False) -> None:
        """Remove the folder, and the marker of a run whose end could be recorded.

        Of one that is interrupted, a process that was just starting may be left; it is ended.
        """
        if not self._path:
            if self._marker.is_held:
                self._marker.remove()
            return
        if interrupted and self._watcher:
            import psutil

            # our own children have been told to end; W&B's service does so after this process
            watcher.end_all(self._path, spared=psutil.Process().children())
        tempfile.tempdir = str(self._path.parent)
        variables.set_variables({"TMPDIR": self._variable})
        if self._watcher:
            watcher.stop(self._watcher)
            self._watcher = None
        _remove(self._path)
        self._marker.remove() if recorded else self._marker.release()
        self._path = None


def remove_temporary(folder: Path) -> None:
    """Remove a killed run's temporary folder, and nothing else that a marker may name."""
    with contextlib.suppress(FileNotFoundError):
        if _is_temporary(folder):
            _remove(folder)
        elif folder.exists():
            say(f"warning: {folder} stays: no run has made it here", file=sys.stderr)


def _remove(folder: Path) -> None:
    """Remove the temporary folder of a run that is over, and end what still writes into it."""
    for _ in range(REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        watcher.end_processes(folder)


def _is_temporary(folder: Path) -> bool:
    """Whether a folder is one that :class:`Temporary` made."""
    if folder.parent != system_temporary_folder() or not NAME.fullmatch(folder.name):
        return False
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
