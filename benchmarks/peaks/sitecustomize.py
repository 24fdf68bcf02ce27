"""Records the peak memory of each Python process that a benchmark starts.

Python imports this module at its start. `/usr/bin/time -v` reports only the largest process.
"""
# Every process waits for these imports, so pathlib is not imported:
# ruff: noqa: PTH119, PTH109, PTH123

import atexit
import os
import sys
import time

STARTED = time.monotonic()


def note(folder: str = "") -> None:
    """Append this process's seconds, peak memory in KiB, folder and command to a file."""
    with open("/proc/self/status") as status:
        peak = next((line.split()[1] for line in status if line.startswith("VmHWM")), "0")
    seconds = time.monotonic() - STARTED
    command = " ".join(sys.orig_argv)[:200].replace("\n", " ")
    with open(os.environ["BENCHMARK_PEAKS"], "a") as file:
        file.write(f"{seconds:.3f}\t{peak}\t{folder or FOLDER}\t{command}\n")


def note_at_exit() -> None:
    """Let a forked child note itself when it calls ``os._exit``, which runs no exit functions."""
    leave = os._exit

    def noted(status: int) -> None:
        note(os.path.basename(os.getcwd()))
        leave(status)

    os._exit = noted


if "BENCHMARK_PEAKS" in os.environ:
    FOLDER = os.path.basename(os.getcwd())
    atexit.register(note)
    os.register_at_fork(after_in_child=note_at_exit)
