"""A temporary folder for a whole run of the tests, and what of theirs is left when it ends."""

import contextlib
import os
import shutil
import tempfile
from fnmatch import fnmatch
from pathlib import Path

import psutil

PYTEST = "t"  # pytest's own folders; short, for tests make sockets in them

# What others leave there on purpose; it goes with the folder.
TOLERATED = {
    PYTEST: "the tests' folders",
    "db_init_lock-*": "MLflow's lock of a database, one file for all processes",
    "uv-*.lock": "uv's locks, one file for all processes",
    "mlflow-envs-*": "steps' environments, where the home's path has a space; they are kept",
    "mlflow-templates*": "MLflow's empty store, which the tests' homes share",
    "tmp*wandb-*": "the W&B SDK's in pytest's own process, which is not over yet",
}
GRACE = 10  # seconds that a process which was told to end may take


class Place:
    """The folder, as TMPDIR of pytest, its workers and all that they start."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="tests-"))  # short: UNIX sockets are made in it
        self.path.chmod(0o711)  # PostgreSQL goes through it as another user
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.path)
        self.problems: list[str] = []
        self.keep = False

    def check(self) -> None:
        """Find what the tests or the product have left."""
        self.problems += [
            f"a process is left: {name}" for name in map(_shown, still_running(self.path))
        ]
        for entry in sorted(self.path.iterdir()):
            if not any(fnmatch(entry.name, pattern) for pattern in TOLERATED):
                inside = [path.name for path in entry.iterdir()] if entry.is_dir() else "a file"
                self.problems.append(f"{entry} is left: {inside}")

    def remove(self) -> None:
        """Remove it, unless there is something in it to be read."""
        if not self.keep:
            shutil.rmtree(self.path)


def still_running(folder: Path) -> list[psutil.Process]:
    """The processes that the tests have started, however far down, and that don't end."""
    found = psutil.Process().children(recursive=True)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # another user's, or gone
            if process.environ().get("TMPDIR", "").startswith(str(folder)):
                found.append(process)
    return psutil.wait_procs(set(found), timeout=GRACE)[1]


def _shown(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    return str(process.pid)
