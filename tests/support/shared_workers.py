"""Interpreters that have imported what programs of this repository import, forked for each of them.

Most of a small run's time is spent on imports, and few tests are about them. Here the product's own
step worker does for tests what it does for the trials of a sweep: a program is a forked child of
it, and the steps of a run are turns of workers that all runs share. What is about starting, workers
or kills uses :meth:`Checkout.start`, or a :class:`Checkout` with ``shares_workers=False``.
"""

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import psutil

from pipeline.core import settings
from pipeline.core.security import hardening
from pipeline.orchestration.execution.workers import STORES, TRACED, WORKER, worker_name
from pipeline.steps.folders import step_folders
from tests.support import program
from tests.support.paths import ROOT

# They build environments below the home that MLflow has found when it was imported
BUILDERS = {"promote", "predict", "serve", "reproduce"}
READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "OMP_", "MKL_", "OPENBLAS_", "MPL")
MANY = 200
_workers: dict[Path, tuple[Path, int]] = {}  # the socket and process id of each script's
_started: list[subprocess.Popen] = []  # by this process
_numbers = itertools.count()


def knows(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a program is one of this repository, and starts as it would from this process."""
    if words[:2] == ["-m", "tests.support.registered"]:
        known = True
    elif words[:2] == ["-m", "pipeline"]:
        known = BUILDERS.isdisjoint(words) or "--env-manager=local" in words
    elif Path(words[0]) == ROOT / "main.py":
        known = "main.env_manager=local" in words
    else:
        known = Path(words[0]) in [ROOT / step / "script.py" for step in step_folders()]
    changed = {name for name, text in environment.items() if os.environ.get(name) != text}
    return known and not any(name.startswith(READ_AT_START) for name in changed - {"PYTHONPATH"})


def run(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str], limit: float
) -> tuple[int, str, str]:
    """Run a program as a child of a worker: its exit status, standard output and error."""
    with tempfile.TemporaryDirectory(dir=_folder()) as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        job = {
            "arguments": [str(out), str(err), *words],
            "environment": dict(environment),
            "folder": str(cwd),
            "log": os.devnull,
        }
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(limit)
            _connect(connection, Path(program.__file__))
            with connection.makefile() as answers:
                answers.readline()  # the child's number
                connection.sendall(f"{json.dumps(job)}\n".encode())
                status = int(answers.readline())
        return status, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")


def offer(words: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """The variable that leads a run of main.py to step workers that it need not start.

    Args:
        words: the run's overrides, which say by which names it looks for workers.
        environment: its variables.
    """
    given = dict(word.partition("=")[::2] for word in words)
    if "main.backend" in given:  # `local` has no workers
        return {}
    told = {
        settings.STATE_DIR: given["main.state_dir"],
        settings.TRACKER: given.get("main.tracker", "trackio"),
        "HYDRA_FULL_ERROR": "1",
    }
    if told[settings.TRACKER] == "trackio":
        told["TRACKIO_DIR"] = environment.get("TRACKIO_DIR") or f"{given['main.state_dir']}/trackio"
    variables = {**environment, **hardening.quiet_git(environment), **told}
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    for step in step_folders():
        name = worker_name(ROOT / step, sys.executable, variables)
        (folder / name).symlink_to(_worker(ROOT / step / "script.py"))
    return {settings.WORKERS: str(folder)}


def start() -> dict[str, tuple[str, int]]:
    """Start all workers at once, for pytest's workers to use: their scripts, sockets and pids."""
    scripts = [Path(program.__file__), *(ROOT / step / "script.py" for step in step_folders())]
    return {str(script): (str(_worker(script)), _workers[script][1]) for script in scripts}


def inherit(workers: Mapping[str, tuple[str, int]]) -> None:
    """Use workers that another process has started."""
    _workers.update({Path(script): (Path(at), pid) for script, (at, pid) in workers.items()})


def other_processes() -> list[psutil.Process]:
    """What this process has started, however far down, beside the workers."""
    own = {worker.pid for worker in _started}
    children = psutil.Process().children()
    others = [child for child in children if child.pid not in own]
    return [*others, *(below for child in others for below in child.children(recursive=True))]


def close() -> None:
    """End the workers: their standard input ends."""
    for worker in _started:
        worker.communicate()
    if _folder.cache_info().currsize:
        shutil.rmtree(_folder(), ignore_errors=True)


@cache
def _folder() -> str:
    return tempfile.mkdtemp(prefix="shared-")


def _worker(script: Path) -> Path:
    """The socket of a script's worker, which is started anew if a test has ended it."""
    address, pid = _workers.get(script, (None, 0))
    if address and _runs(pid):
        return address
    number = next(_numbers)
    assert number < MANY, "the workers end at once"
    address = Path(_folder(), f"worker-{number}")
    modules = [] if script == Path(program.__file__) else [*STORES, *program.AHEAD]
    words = [sys.executable, WORKER, script, address, *modules]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | (TRACED if modules else {})
    worker = subprocess.Popen(words, stdin=subprocess.PIPE, env=environment, **silent)
    _started.append(worker)
    _workers[script] = address, worker.pid
    return address


def _runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _connect(connection: socket.socket, script: Path) -> None:
    """Connect to a worker as soon as it listens."""
    while True:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return connection.connect(str(_worker(script)))
        time.sleep(0.02)
