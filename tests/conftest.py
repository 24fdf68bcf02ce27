"""What the tests share: steps as modules and as programs, a place of their own, a faulty server."""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import settings

from conversion import dvc_export
from conversion.calls import Call, calls
from pipeline.config import schema
from tests import leftovers
from tests.wandb_server import WandbServer

ROOT = Path(__file__).parents[1]
POKEMON = ROOT / "data" / "pokemon.csv"
CLEARED = ("WANDB_", "MLFLOW_", "TRACKIO_", "PIPELINE_", "HYDRA_", "GIT_", "HTTP", "http")

settings.register_profile("steps", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("steps")

# Whole files go to the workers, so the longest come first; and later no worker waits for another.
LONGEST = (
    "interruption",
    "shared",
    "ray",
    "pipeline",
    "bad_input",
    "reproduce",
    "concurrency",
    "sweeps",
    "training",
    "compare",
    "registry",
    "remote",
    "azure",
    "sync",
    "wandb_pipeline",
    "wrapper",
    "notebooks",
    "dvc",
    "browser",
    "integrity",
    "report",
)
TEMPORARY = pytest.StashKey[leftovers.Place]()


@pytest.hookimpl(tryfirst=True)  # before pytest chooses its own folder
def pytest_configure(config: pytest.Config) -> None:
    """Temporary files go to a folder of this run; pytest-xdist's workers are told by TMPDIR."""
    # a shell that starts the suite in the background has all that it starts ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        place = config.stash[TEMPORARY] = leftovers.Place()
        config.option.basetemp = config.option.basetemp or place.path / leftovers.PYTEST


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; needs pytest-xdist's --no-loadscope-reorder."""
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.hookimpl(trylast=True)  # when the workers have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The run fails if it leaves a process or a file."""
    if place := session.config.stash.get(TEMPORARY, None):
        place.check()
        if place.problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        place.keep = session.exitstatus == pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell what is left, and where a failed run's folders are."""
    if place := config.stash.get(TEMPORARY, None):
        for problem in place.problems:
            terminalreporter.write_line(f"LEFT BEHIND {problem}", red=True)
        if place.keep:
            terminalreporter.write_line(f"temporary files are kept in {place.path}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing is left of a run that went well."""
    if place := config.stash.get(TEMPORARY, None):
        place.remove()


def load_step(name: str) -> ModuleType:
    """A step's script as a module, such as ``load_step("2-ETL")``."""
    spec = importlib.util.spec_from_file_location(f"step_{name[0]}", ROOT / name / "script.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / name))  # as for a program, so that it finds the files beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / name))
    return module


@dataclass
class Ended:
    """How a program ended."""

    status: int
    out: str
    err: str
    report: dict = field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, str]:
        """Name and version of each artifact it logged."""
        return {output["name"]: output["version"] for output in self.report["outputs"]}


class Place:
    """A home and a state folder, and steps that run there as programs."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "home").mkdir()

    def environment(self) -> dict[str, str]:
        """The variables of a step that runs alone, with Trackio."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
        return {
            **kept,
            "HOME": str(self.folder / "home"),
            "PIPELINE_STATE_DIR": str(self.folder / "state"),
            "PIPELINE_TRACKER": "trackio",
            "NO_PROXY": "127.0.0.1",
        }

    def python(self, *arguments: str | Path, **environment: str) -> Ended:
        """Run this interpreter in the place; its report, if it is a step."""
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environment(), "PIPELINE_STEP_REPORT": str(report), **environment},
            capture_output=True,
            text=True,
        )
        told = json.loads(report.read_text()) if report.exists() else {}
        return Ended(done.returncode, done.stdout, done.stderr, told)

    def run(self, step: str, environment: dict[str, str] | None = None, **parameters: Any) -> Ended:
        """Run a step as ``python script.py --key=value ...``; text goes as it is, else JSON."""
        given = {**STANDARD[step], **parameters}
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()}
        words = [f"--{key}={text}" for key, text in texts.items()]
        return self.python(ROOT / step / "script.py", *words, **(environment or {}))

    def refused(self, step: str, *words: str, **parameters: Any) -> Ended:
        """Run a step that has to fail: a few lines with these words, and nothing logged."""
        before = self.artifacts()
        ended = self.run(step, **parameters)
        assert ended.status == 1, ended.err
        assert "Traceback" not in ended.err
        assert f"error in {step}: " in ended.err
        message = ended.err.partition(f"error in {step}: ")[2]
        assert len(message.splitlines()) <= 6, message
        for word in words:
            assert word in message
        assert set(ended.report) == {"error"}
        assert self.artifacts() == before
        return ended

    def put(self, data: bytes | str, name: str = "raw.csv") -> Ended:
        """Log bytes as a raw artifact, by the download step."""
        source = self.folder / "source.csv"
        source.write_bytes(data if isinstance(data, bytes) else data.encode())
        ended = self.run("1-Download_data", file_url=source.as_uri(), artifact_name=name)
        assert ended.status == 0, ended.err
        return ended

    def file(self, output: dict[str, str]) -> Path:
        """The stored bytes of an output in a step's report."""
        digest = output["digest"]
        blobs = self.folder / "state" / "trackio" / "artifacts" / "pokemon" / "blobs" / "sha256"
        return blobs / digest[:2] / digest

    def artifacts(self) -> dict[str, dict]:
        """The metadata of each artifact version in the tracker, by ``name:version``."""
        store = self.folder / "state" / "trackio" / "pokemon.db"
        if not store.exists():
            return {}
        query = "select name, version, metadata from artifact_versions v, artifacts a"
        with contextlib.closing(sqlite3.connect(store)) as database:
            rows = database.execute(f"{query} where a.id = v.artifact_id").fetchall()
        return {f"{name}:v{version}": json.loads(text) for name, version, text in rows}


# What each step is given unless a test says otherwise.
STANDARD: dict[str, dict[str, str]] = {
    "1-Download_data": {"file_url": POKEMON.as_uri(), "artifact_name": "raw.csv", "retries": "0"},
    "2-ETL": {"input_artifact": "raw.csv:latest", "artifact_name": "clean_data.csv"},
    "3-Split_dataset": {
        "input_artifact": "clean_data.csv:v0",
        "train_artifact_name": "train_data.csv",
        "test_artifact_name": "test_data.csv",
        "test_size": "0.25",
    },
    "4-Training_model": {
        "train_artifact": "train_data.csv:v0",
        "test_artifact": "test_data.csv:latest",
    },
    "5-Report": {
        "model_artifact": "model:v0",
        "train_artifact": "train_data.csv:v0",
        "test_artifact": "test_data.csv:v0",
    },
}
for _step, _type in zip(STANDARD, ("raw_data", "processed_data", "split_data"), strict=False):
    STANDARD[_step] |= {"artifact_type": _type, "artifact_description": "a table"}


def assert_helps(step: str, folder: Path) -> None:
    """``python script.py --help`` works from any folder, and lists every parameter."""
    command = [sys.executable, ROOT / step / "script.py", "--help"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    for action in load_step(step).arguments()._actions:
        assert action.option_strings[-1] in done.stdout
        assert action.help
    assert not any(folder.iterdir())


@cache
def main_calls() -> dict[str, Call]:
    """The steps that main.py runs with the default configuration, and what it gives them."""
    schema.register()
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        return calls(dvc_export.go(), compose("config"))


def assert_contract(step: str) -> None:
    """MLproject, argparse and main.py agree on a step's parameters and their defaults."""
    entry = yaml.safe_load((ROOT / step / "MLproject").read_text())["entry_points"]["main"]
    declared = {key: value.get("default") for key, value in entry["parameters"].items()}
    assert {value["type"] for value in entry["parameters"].values()} == {"string"}
    words = entry["command"].split()
    assert words == ["python", "script.py", *(f"--{key}={{{key}}}" for key in declared)]

    parser = load_step(step).arguments()
    actions = [a for a in parser._actions if not isinstance(a, argparse._HelpAction)]
    options = {a.option_strings[0].removeprefix("--"): a for a in actions}
    assert list(options) == list(declared)
    for key, action in options.items():
        assert action.required == (declared[key] is None), key
        if not action.required:  # the same value, whether given as text or left out
            as_text = (action.type or str)(declared[key])
            left_out = action.default
            if isinstance(left_out, str):
                left_out = (action.type or str)(left_out)
            assert as_text == left_out, key

    assert set(main_calls()[step].parameters) == set(declared)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place of the test's own."""
    return Place(tmp_path)


TINY = "#,Name,Type 1,Sp. Atk,Legendary\n" + "".join(
    f"{i},N{i},{'Fire' if i % 3 else 'Water'},{10 + i * 7 % 90},{i % 4 == 0}\n" for i in range(80)
)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Ended]]:
    """A place in which all four steps have run as plain programs on a tiny table."""
    place = Place(tmp_path_factory.mktemp("chain"))
    ended = {"1-Download_data": place.put(TINY)}
    ended["2-ETL"] = place.run("2-ETL")
    ended["3-Split_dataset"] = place.run("3-Split_dataset", stratify="legendary")
    ended["4-Training_model"] = place.run("4-Training_model")
    for result in ended.values():
        assert result.status == 0, result.err
    return place, ended


@dataclass
class Page:
    """What the server answers at a path: faults first, in their order, then the body."""

    body: bytes
    faults: list[str | int]
    headers: dict[str, str]
    asked: int = 0


class Handler(BaseHTTPRequestHandler):
    """Answers with a page, or fails as it says: reset, slow, truncated, unsized, or a status."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        if page is None:
            return self.send_error(404)
        page.asked += 1
        fault = page.faults.pop(0) if page.faults else None
        self.close_connection = True
        if isinstance(fault, int):
            return self.send_error(fault)
        if fault == "slow":
            self.server.closing.wait()
            return None
        if fault == "reset":
            abort = struct.pack("ii", 1, 0)  # close() then sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
            return None
        self.send_response(200)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if fault != "unsized":
            self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        cut = len(page.body) // 2 if fault in ("truncated", "stalled") else None
        self.wfile.write(page.body[:cut])
        self.wfile.flush()
        if fault == "stalled":
            self.server.closing.wait()
        return None

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


class Server(ThreadingHTTPServer):
    """An HTTP server on the loopback interface."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Page] = {}
        self.closing = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are expected."""

    def shutdown_request(self, request: socket.socket) -> None:
        """Close at once; the usual polite end would come before a reset."""
        self.close_request(request)

    def page(self, path: str, body: bytes, *faults: str | int, **headers: str) -> str:
        """Serve a body at a path; its address."""
        self.pages[path] = Page(body, [*faults], headers)
        return f"http://127.0.0.1:{self.server_port}{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that runs while the test does."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def wandb_server() -> Iterator[WandbServer]:
    """A W&B server that has nothing, and that knew the answer to every question it was asked."""
    with WandbServer() as running:
        yield running
        assert running.unanswered == []
