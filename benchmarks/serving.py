"""Measure ``python -m pipeline serve`` beside ``mlflow models serve`` of the same model.

python benchmarks/serving.py                                        # a quarter of an hour
python benchmarks/serving.py --requests 200 --rounds 1 --memory 400 # a try-out

Each request is the same row, raw for ours and clean for MLflow's, which does not clean. The
servers are measured in turn, so that one load of the machine meets both; processor time is the
server's own.
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
from sweep import SNAPSHOT, Place

from pipeline.science.data.tables import snake_case

NAME = "pokemon-legendary"
LEFT_OUT = ("#", "Name", "Legendary")
FEWEST = 100  # requests of a measurement with one client


def bodies() -> dict[str, bytes]:
    """One row as each server takes it, numbers as numbers."""
    with SNAPSHOT.open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    raw = {name: int(cell) if cell.isdecimal() else cell for name, cell in row.items()}
    clean = {snake_case(name): cell for name, cell in raw.items() if name not in LEFT_OUT}
    both = {"pipeline": raw, "mlflow": clean}
    return {k: json.dumps({"dataframe_records": [row]}).encode() for k, row in both.items()}


def train(place: Place) -> None:
    """Run the pipeline, and put its model into production."""
    place.run("main.steps=[1,2,3,4]")
    place.environment["PIPELINE_STATE_DIR"] = str(place.state)
    programs = [str(Path(sys.executable).parent), place.environment["PATH"]]
    place.environment["PATH"] = os.pathsep.join(programs)  # mlflow starts uvicorn by its name
    place.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{place.state / 'mlflow.db'}"
    place.seconds("-m", "pipeline", "promote", "--env-manager=local")


def commands(port: int) -> dict[str, list[str]]:
    """The words after ``python -m`` that start each server."""
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
def running(name: str, place: Place, port: int) -> Iterator[tuple[str, int]]:
    """A server, once it listens: its address and its process."""
    words = [sys.executable, "-m", *commands(port)[name]]
    listens = port + (name == "mlflow")
    with (place.folder / f"{name}.log").open("wb") as log:
        form = {"cwd": place.folder, "env": place.environment, "start_new_session": True}
        server = subprocess.Popen(words, stdout=log, stderr=log, **form)
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", listens)):
                break
            time.sleep(0.1)
        else:
            raise RuntimeError((place.folder / f"{name}.log").read_text()[-2000:])
        yield f"http://127.0.0.1:{listens}", server.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def once(url: str, pid: int, body: bytes, clients: int, requests: int) -> dict[str, float]:
    """One measurement, with the milliseconds of processor time that the server takes."""
    before = load.processor_seconds(pid)
    found = asyncio.run(load.load(url, body, clients, requests))
    spent = load.processor_seconds(pid) - before
    return {**found, "cpu": 1000 * spent / (found["requests"] + clients)}


def measure(options: argparse.Namespace, place: Place) -> dict:
    """All figures, by name."""
    train(place)
    with contextlib.ExitStack() as stack, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        servers = {name: stack.enter_context(running(name, place, port)) for name in bodies()}
        asked = {name: (*servers[name], body) for name, body in bodies().items()}
        for told in asked.values():
            once(*told, 1, FEWEST)  # the first requests load code
        found = []
        for clients in options.clients:
            samples: dict[str, list[dict]] = {name: [] for name in asked}
            for _ in range(options.rounds):
                for name, told in asked.items():
                    requests = options.requests if clients > 1 else FEWEST
                    samples[name].append(once(*told, clients, requests + clients))
            for name, taken in samples.items():
                middle = {key: statistics.median(one[key] for one in taken) for key in taken[0]}
                rounded = {key: round(value, 2) for key, value in middle.items()}
                found.append({"server": name, "clients": clients, **rounded})
                print(json.dumps(found[-1]), file=sys.stderr, flush=True)
        url, pid, body = asked["pipeline"]
        memory = [round(load.resident_mib(pid), 1)]
        asyncio.run(load.load(url, body, 50, options.memory))
        memory.append(round(load.resident_mib(pid), 1))
    return {
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "measured": found,
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
        told = json.dumps(measure(options, Place(Path(folder), SNAPSHOT)), indent=2)
    print(told)
    if options.output:
        options.output.write_text(f"{told}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
