"""Starts and finds the step workers that the ``prefork`` backend uses.

A worker's socket is named by a digest of its script, its interpreter and the environment variables
that can affect imports. So the trials of a sweep find the workers that the sweep has started. A
worker checks for each job whether the files that it has imported have changed.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TextIO

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest, write_whole
from pipeline.core.security import hardening, seals
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.provenance import origin
from pipeline.steps.context import VARIABLE, StepContext
from pipeline.steps.worker import STALE

WORKER = ROOT / "pipeline" / "steps" / "worker.py"
# Variables that can't affect imports: they identify a run, or are set for each job.
IGNORED = (
    "PIPELINE_", "MLFLOW_", settings.PROJECT, settings.GROUP, "_", "TMPDIR", "PATH", "PIP_", "UV_",
    "KMP_",
)  # fmt: skip
IGNORED_ENDS = ("_NUM_THREADS", "_MAXIMUM_THREADS", "ENABLE_IPC")  # joblib's
STORES = [  # MLflow's local ones
    f"mlflow.store.{kind}.sqlalchemy_workspace_store" for kind in ("tracking", "model_registry")
]
AHEAD = 5  # steps whose workers run at the same time, each with 50 to 200 MB
FOLDER = re.compile("workers-[a-z0-9_]{8}")  # of sockets, as tempfile names it
TRACED = {VARIABLE: StepContext(trace=True).to_json()}
COUNTED = (settings.STATE_DIR, settings.TRACKER)


@dataclass(frozen=True)
class ForkedChild:
    """A forked child of a worker that waits for its job.

    Attributes:
        connection: the socket to send the job.
        answers: the lines that the child sends, the last of which is its exit status.
        pid: the child's process id.
    """

    connection: socket.socket
    answers: TextIO
    pid: int


class Workers:
    """The step workers that this process has started.

    Args:
        parent: the folder for the workers' socket folder; None: the temporary folder.
    """

    def __init__(self, parent: str | None = None):
        self._parent = parent
        self._started: dict[Path, tuple[Path, subprocess.Popen]] = {}
        self.folder: Path | None = None

    def prepare(self, step: Path, env_manager: str) -> None:
        """Start a step's worker, unless it is running or the step's Python is unknown."""
        python = interpreter(step, env_manager)
        if python is None or sys.platform != "linux":  # forks are not safe elsewhere
            return
        name = worker_name(step, python, os.environ)
        started = self._started.get(step)
        running = started and started[0].name == name and started[1].poll() is None
        if not running and not _shared(name).exists():
            self._end(step)
            self._start(step, python, name)

    def _start(self, step: Path, python: str, name: str) -> None:
        if self.folder is None:
            remove_unused(Path(self._parent or tempfile.gettempdir()))
            self.folder = Path(tempfile.mkdtemp(prefix="workers-", dir=self._parent))
        address = self.folder / name
        address.unlink(missing_ok=True)  # of a worker that was killed
        process = subprocess.Popen(
            [python, str(WORKER), str(step / "script.py"), str(address), *_modules()],
            env=os.environ | {"TMPDIR": str(self.folder), **TRACED},
            stdin=subprocess.PIPE,  # closed when this process ends, which ends the worker
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._started[step] = address, process

    def connect(self, step: Path, env_manager: str) -> ForkedChild | None:
        """A child of a step's worker, which is started if necessary; None without a worker."""
        if python := interpreter(step, env_manager):
            with contextlib.suppress(OSError):
                if child := _connect(_shared(worker_name(step, python, os.environ))):
                    return child
        self.prepare(step, env_manager)
        if (child := self._own(step)) is None and step in self._started:
            self._end(step)  # it was stale
            self.prepare(step, env_manager)
            child = self._own(step)
        return child

    def _own(self, step: Path) -> ForkedChild | None:
        """A child of the worker that this process has started; waits until the worker listens."""
        started = self._started.get(step)
        while started and started[1].poll() is None:
            with contextlib.suppress(OSError):
                return _connect(started[0])
            time.sleep(0.01)  # the worker is about to listen
        return None

    def keep(self, steps: Collection[Path]) -> None:
        """End the workers of all other steps."""
        for step in self._started.keys() - steps:
            self._end(step)

    def _end(self, step: Path) -> None:
        if step in self._started:
            _, process = self._started.pop(step)
            process.kill()
            process.communicate()

    def close(self) -> None:
        """End all workers."""
        self.keep(())
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def remove_unused(parent: Path) -> None:
    """Remove the folders of workers that were killed together with their parent, as by Ray."""
    for folder in parent.glob("workers-*"):
        with contextlib.suppress(OSError):  # a worker is removing it
            ours = hardening.is_own_folder(folder)
            sockets = [*folder.iterdir()] if ours and FOLDER.fullmatch(folder.name) else []
            if sockets and not any(map(_is_served, sockets)):
                shutil.rmtree(folder, ignore_errors=True)


def _is_served(address: Path) -> bool:
    """Whether a process listens on a socket."""
    with contextlib.suppress(ConnectionError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        return True
    return False


@cache
def trial_workers() -> Workers:
    """The workers that all trials in this process share."""
    return Workers(tempfile.gettempdir())


def _modules() -> list[str]:
    """Modules that steps import late: Trackio's, and MLflow's local store."""
    # W&B must not be imported before a fork
    trackio = os.environ.get(settings.TRACKER) == "trackio"
    local = settings.sqlite_path(settings.tracking_uri())
    return [*(["pipeline.tracking.trackio.runs"] if trackio else []), *(STORES if local else [])]


def _shared(name: str) -> Path:
    """The socket of a worker that the sweep may have started for its trials."""
    return Path(os.environ.get(settings.WORKERS) or os.devnull, name)


def _connect(address: Path) -> ForkedChild | None:
    """A child of the worker at an address; None if the worker is stale.

    Raises:
        OSError: no process listens there.
    """
    with contextlib.ExitStack() as on_failure:
        connection = on_failure.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(str(address))
        answers = on_failure.enter_context(connection.makefile())
        answer = answers.readline().strip()
        if not answer:
            raise ConnectionError("the worker has ended")
        if answer == STALE:
            return None
        on_failure.pop_all()
    return ForkedChild(connection, answers, int(answer))


def worker_name(step: Path, python: str, variables: Mapping[str, str]) -> str:
    """The name of a worker's socket, for one script, interpreter and environment."""
    counted = {
        name: value
        for name, value in variables.items()
        if name in COUNTED or not (name.startswith(IGNORED) or name.endswith(IGNORED_ENDS))
    }
    text = json.dumps([str(step), python, counted], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def interpreter(step: Path, env_manager: str) -> str | None:
    """The Python of a step's environment, or None if none is recorded."""
    if env_manager == "local":
        return sys.executable
    path = _record(step)
    try:
        python = seals.unseal(path.read_bytes()).decode()
        if Path(python).is_absolute() and "\0" not in python:
            return python if Path(python).is_file() else None
        reason = "it names no file"
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = str(error)
    say(f"warning: {path} is damaged ({reason}) and counts as absent", file=sys.stderr)
    return None


def package_lock(step: Path, env_manager: str) -> list[str] | None:
    """The lock of a step's packages; None if its Python is unknown."""
    if env_manager == "local":
        return origin.environment_lock()
    if (python := interpreter(step, env_manager)) is None:
        return None
    prefix = Path(python).parents[1]
    folders = [*_python_path(), *prefix.glob("lib/python*/site-packages")]
    return [origin.interpreter(_version(prefix)), *origin.packages(folders)]


def _python_path() -> list[Path]:
    return [Path(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _version(prefix: Path) -> str:
    """The version of an environment's Python: of venv, uv and virtualenv, or of conda."""
    with contextlib.suppress(FileNotFoundError):
        text = (prefix / "pyvenv.cfg").read_text(encoding="utf-8")
        if match := re.search(r"^version(?:_info)? *= *(\d+\.\d+\.\d+)", text, re.MULTILINE):
            return match[1]
    versions = [path.name.split("-")[1] for path in prefix.glob("conda-meta/python-[0-9]*.json")]
    return versions[0] if versions else ""


def record_interpreter(step: Path, python: Path) -> None:
    """Record the Python of the environment for a step's present ``conda.yml``."""
    record = _record(step)
    record.parent.mkdir(parents=True, exist_ok=True)
    if record.is_dir():
        raise PipelineError(f"{record} is a folder, but must be a file", "move the folder away")
    write_whole(record, seals.seal(str(python).encode()))


def _record(step: Path) -> Path:
    return settings.state_dir() / "environments" / f"{file_digest(step / 'conda.yml')}.python"
