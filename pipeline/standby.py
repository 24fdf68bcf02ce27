"""Interpreters that import a step's libraries before the step's turn comes.

Most of a small step's time is its imports. So while MLflow is loaded, or another step works, the
script of the step to come is started in standby: it imports what it needs and waits at a socket.
The command that MLflow then starts for the step hands its arguments, environment, folder and
output over to it (:func:`pipeline.startup.begin`) and ends as it ends. Where anything is amiss
with the one in standby, that command simply does the work itself.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import ROOT, settings
from pipeline.cache import write_whole
from pipeline.digests import file_digest
from pipeline.fingerprint import code

DIGEST, PYTHON = "conda_yml", "python"


class Standby:
    """One step's script, started ahead of its turn.

    Args:
        step: the step.
        code: digests of the code that it will have imported; see :mod:`pipeline.fingerprint`.
        python: the interpreter of the step's environment.
    """

    def __init__(self, step: str, code: dict[str, str], python: str):
        self.code = code
        self._folder = Path(
            tempfile.mkdtemp(prefix="standby-")
        )  # paths of sockets have to be short
        self.address = str(self._folder / "turn")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(1)
            self._process = subprocess.Popen(
                [python, "script.py"],
                cwd=ROOT / step,
                env=os.environ | {settings.STANDBY_LISTENER: str(listener.fileno())},
                stdin=subprocess.PIPE,  # closed when this process ends, and then so does that one
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )

    def close(self, unused: bool) -> None:
        """See it end, which one that has had its turn does by itself."""
        if unused:
            self._process.kill()
        self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Standbys:
    """The steps in standby, by name, until they are closed."""

    def __init__(self, env_manager: str):
        self._env_manager = env_manager
        self._waiting: dict[str, Standby] = {}
        self._used: list[Standby] = []

    def prepare(self, step: str) -> None:
        """Start a step's script ahead of its turn, where its environment is there to do so."""
        if step in self._waiting or not hasattr(socket, "AF_UNIX"):
            return
        if python := interpreter(step, self._env_manager):
            self._waiting[step] = Standby(step, code(step), python)

    @contextlib.contextmanager
    def turn(self, step: str, code: dict[str, str]) -> Iterator[None]:
        """Let the command that MLflow starts meanwhile find the step's standby.

        One that has imported other code than is there now is of no use.
        """
        standby = self._waiting.get(step)
        if standby and standby.code == code:
            self._used.append(self._waiting.pop(step))
            os.environ[settings.STANDBY] = standby.address
        try:
            yield
        finally:
            os.environ.pop(settings.STANDBY, None)

    def close(self) -> None:
        """See all of them end."""
        for standby in self._waiting.values():
            standby.close(unused=True)
        for standby in self._used:
            standby.close(unused=False)


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
