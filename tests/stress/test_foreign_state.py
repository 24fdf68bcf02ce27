"""A state folder that this user may not write, or not even read: a few lines say so."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runs import Checkout, Finished

ROOT_USER = os.getuid() == 0
OTHER = 65534  # a user that is not this one
POWERLESS = ["setpriv", "--bounding-set=-all"] if ROOT_USER else []  # else nothing is forbidden
COMMANDS = {
    "verify": ["-m", "pipeline", "verify"],
    "gc": ["-m", "pipeline", "gc", "--keep", "0", "--yes"],
    "promote": ["-m", "pipeline", "promote"],
    "log": ["-m", "pipeline", "log"],
    "compare": ["-m", "pipeline", "compare"],
    "main.py": ["main.py"],
    "sweep": ["main.py", "-m", "split.test_size=0.2,0.3"],
}
READING = ("log", "compare")

pytestmark = pytest.mark.skipif(
    ROOT_USER and not shutil.which("setpriv"), reason="root may read and write everything"
)


@pytest.fixture
def read_only(tmp_path: Path, finished: tuple[Checkout, Finished]) -> Iterator[Checkout]:
    """Where a finished run's state folder is read-only."""
    checkout = finished[0].copy(tmp_path / "home")
    paths = [checkout.state, *checkout.state.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    yield checkout
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)


@pytest.fixture
def foreign(tmp_path: Path, finished: tuple[Checkout, Finished]) -> Checkout:
    """Where it is another user's."""
    if not ROOT_USER:
        pytest.skip("only root can give files away")
    checkout = finished[0].copy(tmp_path / "home")
    for path in [checkout.state, *checkout.state.rglob("*")]:
        os.chown(path, OTHER, OTHER)
    return checkout


def told(checkout: Checkout, command: str) -> tuple[int, list[str]]:
    """The exit status of a command, and what it says."""
    words = COMMANDS[command]
    if "main.py" in words:
        settings = ["main.env_manager=local", "provenance.snapshot=false"]
        words = [*words, f"main.state_dir={checkout.state}", *settings]
    done = subprocess.run(
        [*POWERLESS, sys.executable, *words],
        cwd=checkout.root,
        env=checkout.environment(PIPELINE_STATE_DIR=str(checkout.state)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_one_that_is_read_only(read_only: Checkout, command: str):
    status, lines = told(read_only, command)
    assert "Traceback" not in "\n".join(lines)
    assert status == (0 if command in READING else 1)
    if command not in READING:
        assert any(f"no permission: {read_only.state}" in line for line in lines), lines


@pytest.mark.parametrize("command", ["verify", "gc", "promote", "sweep"])
def test_one_of_another_user(foreign: Checkout, command: str):
    status, lines = told(foreign, command)
    assert status == 1
    assert len(lines) < 4, lines
    assert lines[-2].startswith(f"error: no permission: {foreign.state}")
    assert "check its owner and permissions" in lines[-1]
