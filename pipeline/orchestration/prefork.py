"""Interpreters that import a step's libraries before the step's turn comes.

Most of a small step's time is its imports. So while MLflow is loaded, or another step works, the
script of the step to come is started in standby: it imports what it needs and waits at a socket.
The command that MLflow then starts for the step hands its arguments, environment, folder and
output over to a child of it (:func:`pipeline.startup.begin`) and ends as that one ends. Where
anything is amiss with the one in standby, that command simply does the work itself.

The one in standby goes on waiting, so the trials of a sweep that one process carries out share
what it has imported. A sweep starts that of its last step itself, and lends it to the processes
that carry out its trials.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.cache.fingerprint import code
from pipeline.core import settings
from pipeline.core.files import file_digest, write_whole
from pipeline.core.settings import ROOT

DIGEST, PYTHON = "conda_yml", "python"
# What no import goes by: it tells one run from another, or is set on the way to a step.
ASIDE = ("PIPELINE_", "MLFLOW_", "_", "TMPDIR", "PATH", "PIP_", "UV_", "KMP_")
THREADS = ("_NUM_THREADS", "_MAXIMUM_THREADS", "ENABLE_IPC")  # joblib's, and set for each turn


class Standby:
    """One step's script, started ahead of its turns.

    Args:
        step: the step.
        code: digests of the code that it will have imported; see :mod:`pipeline.fingerprint`.
        python: the interpreter of the step's environment.
        folder: where temporary files go that last as long as it does.
    """

    def __init__(self, step: str, code: dict[str, str], python: str, folder: Path):
        self.code, self.environment = code, _lasting()
        self.used = False  # since the last trial
        self._ever_used = False
        self._folder = Path(tempfile.mkdtemp(prefix="standby-", dir=folder))
        self.address = str(self._folder / "turn")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(1)
            self._process = subprocess.Popen(
                [python, "script.py"],
                cwd=ROOT / step,
                env=os.environ
                | {"TMPDIR": str(folder), settings.STANDBY_LISTENER: str(listener.fileno())},
                stdin=subprocess.PIPE,  # closed when this process ends, and then so does that one
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )

    @property
    def alive(self) -> bool:
        """Whether it is there; one that was stopped with its step is not."""
        return self._process.poll() is None

    def take(self) -> str:
        """The address at which a turn is handed over."""
        self.used = self._ever_used = True
        return self.address

    def close(self) -> None:
        """See it end, and its turns before it."""
        if not self._ever_used:
            self._process.kill()  # in the midst of its imports, perhaps
        self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Lent:
    """A step's script that another process has started ahead of its turns, and sees end."""

    def __init__(self, code: dict[str, str], environment: str, address: str):
        self.code, self.environment, self.address = code, environment, address
        self.used = False

    @property
    def alive(self) -> bool:
        """Whether it is there, as far as can be seen from here."""
        return Path(self.address).exists()

    def take(self) -> str:
        """The address at which a turn is handed over."""
        self.used = True
        return self.address

    def close(self) -> None:
        """Leave it to its owner."""


class Standbys:
    """The steps in standby, by name, until they are closed.

    Args:
        env_manager: who builds the steps' environments.
        folder: for temporary files; None: the run's.
    """

    def __init__(self, env_manager: str, folder: Path | None = None):
        self._env_manager, self._folder = env_manager, folder
        self._waiting: dict[str, Standby | Lent] = {}

    def prepare(self, step: str) -> None:
        """Start a step's script ahead of its turn, where its environment is there to do so."""
        known = self._waiting.get(step)
        if (known and known.alive) or not hasattr(socket, "AF_UNIX"):
            return
        if python := interpreter(step, self._env_manager):
            self._drop(step)
            folder = self._folder or Path(tempfile.gettempdir())
            self._waiting[step] = Standby(step, code(step), python, folder)

    @contextlib.contextmanager
    def turn(self, step: str, code: dict[str, str]) -> Iterator[None]:
        """Let the command that MLflow starts meanwhile find the step's standby.

        One that has imported other code than is there now is of no use.
        """
        standby = self._waiting.get(step)
        if standby and standby.code != code:
            self._drop(step)
        elif standby:
            os.environ[settings.STANDBY] = standby.take()
        try:
            yield
        finally:
            os.environ.pop(settings.STANDBY, None)

    def begin_trial(self) -> None:
        """Take what was lent, and drop what a trial can't use: something else is set now."""
        for step, told in json.loads(os.environ.get(settings.STANDBYS_LENT) or "{}").items():
            self._waiting.setdefault(step, Lent(**told))
        for step, standby in list(self._waiting.items()):
            if standby.environment != _lasting():
                self._drop(step)

    def lend(self) -> None:
        """Let the processes that this one starts use those that are waiting here."""
        names = ("code", "environment", "address")
        told = {
            step: {name: getattr(standby, name) for name in names}
            for step, standby in self._waiting.items()
        }
        os.environ[settings.STANDBYS_LENT] = json.dumps(told)

    def end_trial(self) -> None:
        """Keep what the next trial will use: what this one has, unless it has run nothing."""
        used = [standby.used for standby in self._waiting.values()]
        for step, standby in list(self._waiting.items()):
            if not standby.alive or (any(used) and not standby.used):
                self._drop(step)
            standby.used = False

    def close(self) -> None:
        """See all of them end."""
        for step in list(self._waiting):
            self._drop(step)

    def _drop(self, step: str) -> None:
        if standby := self._waiting.pop(step, None):
            standby.close()


_kept: dict[str, Standbys] = {}


def kept(env_manager: str) -> Standbys:
    """Those of the trials that this process carries out."""
    if env_manager not in _kept:
        _kept[env_manager] = Standbys(env_manager, Path(tempfile.gettempdir()))
    return _kept[env_manager]


def end() -> None:
    """See those of this process's trials end."""
    os.environ.pop(settings.STANDBYS_LENT, None)
    while _kept:
        _kept.popitem()[1].close()


def _lasting() -> str:
    """A digest of what of the environment an import may go by."""
    ours = {settings.STATE_DIR, settings.TRACKER}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ours or not (name.startswith(ASIDE) or name.endswith(THREADS))
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def interpreter(step: str, env_manager: str) -> str | None:
    """The Python of a step's environment, or None as long as nobody has recorded one."""
    if env_manager == "local":
        return sys.executable
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        known = json.loads(_record(step).read_text(encoding="utf-8"))
        if known[DIGEST] == file_digest(ROOT / step / "conda.yml") and Path(known[PYTHON]).exists():
            return known[PYTHON]
    return None


def record_interpreter(step: str, python: Path) -> None:
    """Remember where the environment of a step's present ``conda.yml`` is."""
    record = _record(step)
    record.parent.mkdir(parents=True, exist_ok=True)
    told = {DIGEST: file_digest(ROOT / step / "conda.yml"), PYTHON: str(python)}
    write_whole(record, json.dumps(told))


def _record(step: str) -> Path:
    return settings.state_dir() / "environments" / f"{step}.json"
