"""Manages the processes of a run: signals, time limits, markers and temporary files."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
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
from pipeline.core.security import hardening
from pipeline.core.text import say
from pipeline.orchestration.execution import watcher
from pipeline.tracking.mlflow import retries as mlflow_retries

if TYPE_CHECKING:
    import psutil

GRACE = 3.0  # seconds between SIGTERM and SIGKILL
SERVICE, SERVICE_GRACE = "wandb-core", 0.5
CLEANUP = 60.0  # seconds to wait while another start cleans up after the run
REMOVALS = 3  # attempts to remove a folder into which processes still write
NAME = re.compile("pipeline-[0-9a-f]{8}")  # names of temporary folders of runs


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """On a signal to end, such as Ctrl-C, end all child processes and raise KeyboardInterrupt."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        variables.set_variables(mlflow_retries.WITHOUT_RETRIES)  # stop quickly
        end_children()
        raise KeyboardInterrupt

    try:
        before = {name: signal.signal(name, stop) for name in ending_signals()}
    except ValueError:  # not in the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[threading.Event]:
    """End all child processes after ``seconds``; the yielded event is set if that happened."""
    over, late = threading.Event(), threading.Event()

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):  # also end processes that start later
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
    """Run ``main.py`` of a checkout, and return its exit status.

    Args:
        code: the folder of the checkout.
        words: the arguments.
        variables: the environment variables.

    Raises:
        KeyboardInterrupt: the run was interrupted.
    """
    command = [sys.executable, str(code / "main.py"), *words]
    # In a session of its own, so that it gets Ctrl-C only once: from this process.
    process = subprocess.Popen(command, env=dict(variables), start_new_session=True)

    def stop(_number: int, _frame: FrameType | None) -> None:
        process.send_signal(signal.SIGINT)

    numbers = ending_signals()
    before = {number: signal.signal(number, stop) for number in numbers}
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
    """Let :func:`end_children` also end a process that is the child of a worker."""
    _adopted[:] = [child, *(process for process in _adopted if process.is_running())]


def end_children() -> None:
    """End all processes below this one, except the watcher and the tracker's service."""
    import psutil

    children = psutil.Process().children()
    excluded = (watcher.is_watcher, _is_service)
    end(*(child for child in children if not any(test(child) for test in excluded)), *_adopted)


def end(*roots: "psutil.Process") -> None:
    """End processes and all below them: terminate them, and kill them after :data:`GRACE`.

    A tracker's service is ended after its process, as it has to end the process's run. Resource
    trackers, which ignore signals, end by themselves after the processes whose files they remove.
    """
    import psutil

    running = set()
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            running |= {root, *root.children(recursive=True)}
    running = {process for process in running if not _is_resource_tracker(process)}
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
    """Whether a process is W&B's service, which uploads the data of its parent process."""
    import psutil

    try:
        return process.name() == SERVICE
    except psutil.Error:  # it has ended
        return False


def _is_resource_tracker(process: "psutil.Process") -> bool:
    """Whether a process is a resource tracker of multiprocessing or joblib."""
    import psutil

    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.Error:  # it has ended
        return False


# Keys of a run's marker
HOST, MLFLOW_RUN, TEMPORARY, STORE = "host", "mlflow_run", "temporary", "mlflow_store"


class Marker:
    """The marker files of an active run: a lock that its process holds, and notes for the cleanup.

    The operating system releases the lock when the process ends, however it ends.

    Args:
        id: the run's id; notes of an earlier process with this id are replaced.
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
        """Add notes about what the run uses; takes the lock."""
        self.hold()
        self._noted |= {HOST: socket.gethostname(), STORE: _store(), **values}
        write_whole(self.path, json.dumps(self._noted))

    def hold(self) -> None:
        """Take the lock, until the process ends or :meth:`remove`."""
        if not self._lock.is_locked:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=CLEANUP)

    @property
    def is_held(self) -> bool:
        """Whether this process holds the lock."""
        return self._lock.is_locked

    def read(self) -> dict[str, str]:
        """The notes; empty, with a warning, if the file is damaged."""
        try:
            noted = json.loads(self.path.read_text(encoding="utf-8"))
            return {HOST: noted[HOST], **{k: v for k, v in noted.items() if isinstance(v, str)}}
        except FileNotFoundError:  # the run has ended
            return {}
        except (OSError, ValueError, TypeError, LookupError) as error:
            self._warn(error)
            return {}

    def claim(self) -> bool:
        """Take the lock if no process holds it; returns whether it was taken."""
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
        """Whether the run's process is alive."""
        return self.path.is_file() and not self.is_free()

    def is_free(self) -> bool:
        """Whether no process holds the lock."""
        if not self.claim():
            return False
        self.release()
        return True

    def release(self) -> None:
        """Release the lock, and leave the notes to the next start."""
        self._lock.release()

    def remove(self) -> None:
        """Remove all marker files of a run; this process must hold the lock."""
        for path in sorted(self.path.parent.glob(f"{self.id}.*")):  # the lock is the last
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
        self.release()


def killed_runs() -> Iterator[tuple[Marker, dict[str, str]]]:
    """The markers and notes of runs killed on this machine that use the current MLflow store.

    Each marker is locked while it is yielded, so that only one start cleans up after the run.
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
    """The ids of the active runs of this state folder, for every MLflow store."""
    ids = {path.name.partition(".")[0] for path in _folder().glob("*.lock")}
    return sorted(id for id in ids if not Marker(id).is_free())


def _store() -> str:
    """A digest of the MLflow store's address, which may contain a password."""
    return hashlib.sha256(settings.tracking_uri().encode()).hexdigest()


def _folder() -> Path:
    return settings.state_dir() / "running"


def system_temporary_folder() -> Path:
    """The system's temporary folder, for files that several runs share."""
    return Path(os.environ.get(settings.SYSTEM_TMPDIR) or tempfile.gettempdir())


class Temporary:
    """A folder for the temporary files of a run: of this process and of all processes below it.

    A trial's folder is in the folder of its sweep.

    Args:
        marker: the run's marker, in which the folder is noted before it is made.
    """

    def __init__(self, marker: Marker):
        self._marker = marker
        self._path: Path | None = None
        self._variable: str | None = None
        self._watcher: subprocess.Popen | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process does not stop the watcher."""
        return {**vars(self), "_watcher": None}

    def begin(self) -> None:
        """Make the folder, and use it for temporary files."""
        if self._path:
            return
        outer = tempfile.gettempdir()
        variables.set_defaults({settings.SYSTEM_TMPDIR: outer})
        self._marker.hold()
        # of a killed trial that now runs again
        if before := self._marker.read().get(TEMPORARY):
            remove_temporary(Path(before))
        path = Path(outer, f"pipeline-{secrets.token_hex(4)}")  # sockets in it need a short path
        self._marker.note(**{TEMPORARY: str(path)})
        self._path, self._variable = path, os.environ.get("TMPDIR")  # Ctrl-C may come at any time
        path.mkdir(mode=0o700)
        if not NAME.fullmatch(Path(outer).name):  # the sweep's watcher also watches its trials
            self._watcher = watcher.start(path)
        tempfile.tempdir = str(path)
        variables.set_variables({"TMPDIR": tempfile.tempdir})

    def end(self, recorded: bool = True, status: str = "FINISHED") -> None:
        """Remove the folder, and also the marker if the run's end was recorded.

        Unless the run has finished, processes that were just starting, or that a killed step has
        left, are ended first: they would create the folder again.
        """
        if not self._path:
            if self._marker.is_held:
                self._marker.remove()
            return
        if status != "FINISHED" and self._watcher:
            import psutil

            # children are already ending; W&B's service ends after its process
            spared = psutil.Process().children()
            if status == "FAILED":
                spared += filter(_is_service, psutil.process_iter())
            watcher.end_all(self._path, spared)
        tempfile.tempdir = str(self._path.parent)
        variables.set_variables({"TMPDIR": self._variable})
        if self._watcher:
            watcher.stop(self._watcher)
            self._watcher = None
        _remove(self._path)
        self._marker.remove() if recorded else self._marker.release()
        self._path = None


def remove_temporary(folder: Path) -> None:
    """Remove a killed run's temporary folder; other paths in a marker are not removed."""
    with contextlib.suppress(FileNotFoundError):
        if _is_temporary(folder):
            _remove(folder)
        elif folder.exists():
            say(f"warning: {folder} stays: no run has made it here", file=sys.stderr)


def _remove(folder: Path) -> None:
    """Remove a finished run's temporary folder, and end processes that still write into it."""
    for _ in range(REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        watcher.end_processes(folder)


def _is_temporary(folder: Path) -> bool:
    """Whether a folder was made by :class:`Temporary`."""
    named = folder.parent == system_temporary_folder() and NAME.fullmatch(folder.name)
    return bool(named) and hardening.is_own_folder(folder)
