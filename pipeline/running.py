"""What is noted on this machine of each run under way, so that a killed one leaves nothing behind.

A process that is killed can neither end its runs in MLflow nor remove its files. So each run has a
marker, a file that names its process, its run in MLflow and its temporary folder: the next one to
start here finds those of the dead (:func:`pipeline.executor.mark_dead`) and tidies up after them.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import settings
from pipeline.cache import write_whole

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
