"""What all tests share: one temporary folder for the whole run, and fixtures."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings

from pipeline.core import variables
from pipeline.core.security import secrets
from tests.support import leftovers, shared_workers
from tests.support.faulty_server import Server
from tests.support.runs import SMALL, Checkout, Finished
from tests.support.serving import serving
from tests.support.steps import Steps
from tests.support.wandb_server import WandbServer

settings.register_profile("steps", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("steps")

# Whole files go to the workers, so the longest come first; and later no worker waits for another.
LONGEST = (
    "defects_beside_twins",
    "wandb_pipeline",
    "kills",
    "interruption",
    "ray",
    "state",
    "sweeps",
    "reproduce",
    "shared",
    "sweep_kills",
    "integrity",
    "tutorial",
    "environments",
    "wandb_runs",
    "wandb_smoke",
    "wandb_at_once",
    "changes_meanwhile",
    "removability",
    "changes",
    "crowd",
    "settings",
    "prefork",
    "your_own_table",
    "text_classification",
    "pipeline",
    "server_memory",
    "browser",
    "chain",
    "registry",
    "report",
    "without_wandb",
    "concurrency",
    "remote",
    "tuning",
    "secrets",
    "wandb",
    "train",
    "dvc",
    "sync",
    "azure",
    "hardening",
    "compare",
    "damaged_state",
    "predict",
    "requests",
    "wrapper",
    "trackers",
    "log",
    "bad_input",
    "serving",
    "notebooks",
    "mlflow_store",
)
TEMPORARY = pytest.StashKey[leftovers.Place]()


@pytest.hookimpl(tryfirst=True)  # before pytest chooses its own folder
def pytest_configure(config: pytest.Config) -> None:
    """Temporary files go to a folder of this run; pytest-xdist's workers are told by TMPDIR."""
    # a shell in the background has all that it starts ignore Ctrl-C, and nohup SIGHUP
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        place = config.stash[TEMPORARY] = leftovers.Place()
        config.option.basetemp = config.option.basetemp or place.path / leftovers.PYTEST
    elif workers := config.workerinput.get("workers"):
        shared_workers.inherit(workers)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """The workers of pytest-xdist share one set of interpreters; unit tests need none."""
    if any("unit" not in Path(argument).parts for argument in node.config.args):
        node.workerinput["workers"] = shared_workers.start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; needs pytest-xdist's --no-loadscope-reorder."""
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """What a test sets for its process ends with it: umask, variables, secrets that are hidden."""
    umask, before = os.umask(0o077), dict(os.environ)
    os.umask(umask)
    try:
        with mock.patch.dict(secrets._resolved):
            return (yield)
    finally:
        os.umask(umask)
        variables.replace_all(before)


@pytest.hookimpl(trylast=True)  # when the workers have ended
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The run fails if it leaves a process or a file."""
    shared_workers.close()
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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Finished]:
    """A first run of main.py, without a report, for all files: look at it, or go on in a copy."""
    checkout = Checkout(tmp_path_factory.mktemp("finished") / "a home")
    done = checkout.run(SMALL)
    assert done.status == 0, done.err
    return checkout, done


@pytest.fixture
def place(tmp_path: Path) -> Steps:
    """A place of the test's own."""
    return Steps(tmp_path)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that runs while the test does."""
    with Server() as running, serving(running):
        yield running
        running.closing.set()


@pytest.fixture
def wandb_server() -> Iterator[WandbServer]:
    """A W&B server that has nothing, and that knew the answer to every question it was asked."""
    with WandbServer() as running:
        yield running
        assert running.unanswered == []
