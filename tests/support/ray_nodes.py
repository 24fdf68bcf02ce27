"""Nodes of a Ray cluster on this machine."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.support.runs import environment

RAY = str(Path(sys.executable).parent / "ray")
SMALLEST_STORE = "80000000"


@contextlib.contextmanager
def node(temp: Path, *options: str) -> Iterator[int]:
    """A node of a cluster, from when it is ready until the end of the block; its process."""
    command = [RAY, "start", *options, "--num-cpus", "1", "--temp-dir", str(temp), "--block"]
    command += ["--object-store-memory", SMALLEST_STORE, "--node-ip-address", "127.0.0.1"]
    command += ["--disable-usage-stats"]
    started = subprocess.Popen(
        command,
        cwd=temp,
        env=environment(
            temp,
            TMPDIR=str(temp),  # a machine has its own, and nobody tidies up on one that is lost
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="1",
            RAY_grpc_server_num_threads="2",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, patience = [], threading.Timer(120, end, [started.pid])  # a head that died is awaited
        patience.start()
        for line in started.stdout:
            said.append(line)
            if "--block" in line:  # the last thing it says
                break
        else:
            raise RuntimeError("".join(said))
        patience.cancel()
        threading.Thread(target=started.stdout.read, daemon=True).start()
        yield started.pid
    finally:
        patience.cancel()
        end(started.pid)
        started.wait()


def end(pid: int) -> None:
    """Kill a process and all below it at once, as a machine that loses its power."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(family, 20)
