"""Compare ``python -m pipeline serve`` with ``mlflow models serve`` of the same model.

python benchmarks/serving.py                                        # a quarter of an hour
python benchmarks/serving.py --requests 200 --rounds 1 --memory 400 # a quick trial

Each request is the same row: raw for the pipeline's server, cleaned for MLflow's, which does not
clean. The servers are measured in turn, so that the machine's load affects both; processor time is
that of the server alone.
"""

import argparse
import asyncio
import contextlib
import csv
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import load
from sweep import SNAPSHOT, Workspace

from pipeline.science.data.tables import snake_case

NAME = "pokemon-legendary"
LEFT_OUT = ("#", "Name", "Legendary")
FEWEST = 100  # requests in a measurement with one client


def bodies() -> dict[str, bytes]:
    """The request body of each server: one row, with numbers as numbers."""
    with SNAPSHOT.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    raw = {name: int(cell) if cell.isdecimal() else cell for name, cell in row.items()}
    clean = {snake_case(name): cell for name, cell in raw.items() if name not in LEFT_OUT}
    both = {"pipeline": raw, "mlflow": clean}
    return {k: json.dumps({"dataframe_records": [row]}).encode() for k, row in both.items()}


def train(workspace: Workspace) -> None:
    """Run the pipeline, and promote its model to production."""
    workspace.run("main.steps=[1,2,3,4]")
    workspace.environment["PIPELINE_STATE_DIR"] = str(workspace.state)
    programs = [str(Path(sys.executable).parent), workspace.environment["PATH"]]
    workspace.environment["PATH"] = os.pathsep.join(programs)  # mlflow starts uvicorn by its name
    workspace.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{workspace.state / 'mlflow.db'}"
    workspace.seconds("-m", "pipeline", "promote", "--env-manager=local")


def commands(port: int) -> dict[str, list[str]]:
    """The arguments of ``python -m`` that start each server."""
    model = f"models:/{NAME}@production"
    return {
        "pipeline": ["pipeline", "serve", "--env-manager=local", f"--port={port}"],
        "mlflow": [
            "mlflow",
            "models",
            "serve",
            "-m",
            model,
            "--env-manager=local",
            f"-p{port + 1}",
        ],
    }


@contextlib.contextmanager
def running(name: str, workspace: Workspace, port: int) -> Iterator[tuple[str, int]]:
    """Start a server; yield its address and its process id when it accepts connections."""
    command = [sys.executable, "-m", *commands(port)[name]]
    server_port = port + (name == "mlflow")
    with (workspace.folder / f"{name}.log").open("wb") as log:
        options = {"cwd": workspace.folder, "env": workspace.environment, "start_new_session": True}
        server = subprocess.Popen(command, stdout=log, stderr=log, **options)
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server_port)):
                break
            time.sleep(0.1)
        else:
            raise RuntimeError((workspace.folder / f"{name}.log").read_text()[-2000:])
        yield f"http://127.0.0.1:{server_port}", server.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def once(url: str, pid: int, body: bytes, clients: int, requests: int) -> dict[str, float]:
    """One measurement, including the server's milliseconds of processor time per request."""
    before = load.processor_seconds(pid)
    figures = asyncio.run(load.load(url, body, clients, requests))
    seconds = load.processor_seconds(pid) - before
    return {**figures, "cpu": 1000 * seconds / (figures["requests"] + clients)}


def measure(options: argparse.Namespace, workspace: Workspace) -> dict:
    """All figures, by name."""
    train(workspace)
    with contextlib.ExitStack() as stack, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        servers = {name: stack.enter_context(running(name, workspace, port)) for name in bodies()}
        targets = {name: (*servers[name], body) for name, body in bodies().items()}
        for target in targets.values():
            once(*target, 1, FEWEST)  # the first requests load code
        measured = []
        for clients in options.clients:
            samples: dict[str, list[dict]] = {name: [] for name in targets}
            for _ in range(options.rounds):
                for name, target in targets.items():
                    requests = options.requests if clients > 1 else FEWEST
                    samples[name].append(once(*target, clients, requests + clients))
            for name, repeats in samples.items():
                medians = {
                    key: round(statistics.median(sample[key] for sample in repeats), 2)
                    for key in repeats[0]
                }
                measured.append({"server": name, "clients": clients, **medians})
                print(json.dumps(measured[-1]), file=sys.stderr, flush=True)
        url, pid, body = targets["pipeline"]
        memory = [round(load.resident_mib(pid), 1)]
        asyncio.run(load.load(url, body, 50, options.memory))
        memory.append(round(load.resident_mib(pid), 1))
    return {
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "measured": measured,
        "memory": {"requests": options.memory, "before": memory[0], "after": memory[1]},
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 50, 200])
    parser.add_argument("--requests", type=int, default=1000, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=20_000, help="requests between two looks")
    parser.add_argument("--output", type=Path, help="file for the figures, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(measure(options, Workspace(Path(folder), SNAPSHOT)), indent=2)
    print(text)
    if options.output:
        options.output.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
