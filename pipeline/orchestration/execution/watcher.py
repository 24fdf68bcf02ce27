"""Ends what a killed run leaves: every process whose temporary files are in the run's folder.

``python watcher.py FOLDER`` waits for the end of its standard input, which the run holds open as
long as it lives, however it ends. All that the run has started, directly or not, is known by its
TMPDIR: steps and their workers, a launcher's workers, trackers, installers.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

ROUNDS = 3  # in which nothing is found, before the watcher ends: a process may just be starting
PAUSE = 0.2  # seconds between two rounds


def start(folder: Path) -> subprocess.Popen:
    """Watch over the run that this process is, whose temporary files are in a folder."""
    return subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what kills the run's process group must not kill this
        env={name: value for name, value in os.environ.items() if name != "TMPDIR"},
    )


def stop(watcher: subprocess.Popen) -> None:
    """End the watcher of a run that ends by itself."""
    watcher.kill()
    watcher.communicate()


def is_watcher(process: psutil.Process) -> bool:
    """Whether a process is a watcher."""
    try:
        return __file__ in process.cmdline()
    except psutil.Error:
        return False


def main(folder: str) -> None:
    """Wait for the run's end, and end what it leaves."""
    sys.stdin.buffer.read()
    end_all(Path(folder))


def end_all(folder: Path, spared: Iterable[psutil.Process] = ()) -> None:
    """Kill as :func:`end_processes` does, until no process is found any more."""
    idle = 0
    while idle < ROUNDS:
        idle = 0 if end_processes(folder, spared) else idle + 1
        time.sleep(PAUSE)


def end_processes(folder: Path, spared: Iterable[psutil.Process] = ()) -> int:
    """Kill every other process that keeps its temporary files in a folder; how many there were."""
    found = {process for process in psutil.process_iter() if belongs(process, str(folder))}
    others = found - {psutil.Process(), *spared}
    for process in others:
        process.kill()
    psutil.wait_procs(others, timeout=1)
    return len(others)


def belongs(process: psutil.Process, folder: str) -> bool:
    """Whether a process keeps its temporary files in a folder, or below it."""
    try:
        own = process.environ().get("TMPDIR", "")
    except psutil.Error:  # it has ended, or is another user's
        return False
    return own == folder or own.startswith(f"{folder}{os.sep}")


if __name__ == "__main__":
    main(sys.argv[1])
