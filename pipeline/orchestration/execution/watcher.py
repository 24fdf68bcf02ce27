"""Ends the processes of a killed run, found by their TMPDIR in the run's temporary folder.

``python watcher.py FOLDER`` waits until its standard input is closed, which happens when the run
ends, however it ends. The run's TMPDIR marks all its processes: steps and their workers, a
launcher's workers, trackers, installers.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

ROUNDS = 3  # rounds without a process before the watcher ends, as a process may just be starting
PAUSE = 0.2  # seconds between two rounds


def start(folder: Path) -> subprocess.Popen:
    """Start the watcher of this process's run, whose temporary files are in ``folder``."""
    return subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a kill of the run's process group must not kill the watcher
        env={name: value for name, value in os.environ.items() if name != "TMPDIR"},
    )


def stop(watcher: subprocess.Popen) -> None:
    """Stop the watcher of a run that ends normally."""
    watcher.kill()
    watcher.communicate()


def is_watcher(process: psutil.Process) -> bool:
    """Whether a process is a watcher."""
    try:
        return __file__ in process.cmdline()
    except psutil.Error:
        return False


def main(folder: str) -> None:
    """Wait for the run's end, and end its remaining processes."""
    sys.stdin.buffer.read()
    end_all(Path(folder))


def end_all(folder: Path, spared: Iterable[psutil.Process] = ()) -> None:
    """Call :func:`end_processes` until it finds no more processes."""
    idle = 0
    while idle < ROUNDS:
        idle = 0 if end_processes(folder, spared) else idle + 1
        time.sleep(PAUSE)


def end_processes(folder: Path, spared: Iterable[psutil.Process] = ()) -> int:
    """Kill all other processes with temporary files in ``folder``; returns how many there were."""
    processes = {process for process in psutil.process_iter() if belongs(process, str(folder))}
    targets = processes - {psutil.Process(), *spared}
    for process in targets:
        process.kill()
    psutil.wait_procs(targets, timeout=1)
    return len(targets)


def belongs(process: psutil.Process, folder: str) -> bool:
    """Whether a process's TMPDIR is ``folder`` or below it."""
    try:
        own = process.environ().get("TMPDIR", "")
    except psutil.Error:  # it has ended, or belongs to another user
        return False
    return own == folder or own.startswith(f"{folder}{os.sep}")


if __name__ == "__main__":
    main(sys.argv[1])
