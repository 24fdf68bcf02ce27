"""The temporary folder of a run."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from pipeline.core import settings
from pipeline.orchestration.execution import watcher
from pipeline.orchestration.execution.processes import Marker, Temporary

WRITER = """
import itertools, pathlib, tempfile
print(flush=True)
for number in itertools.count():
    folder = pathlib.Path(tempfile.gettempdir(), str(number % 99))
    folder.mkdir(exist_ok=True)
"""

STARTER = """
import subprocess, sys
words = [sys.executable, "-c", sys.argv[1]]
print(subprocess.Popen(words, stdout=subprocess.DEVNULL).pid)
"""
MAKER = """
import pathlib, tempfile
folder = pathlib.Path(tempfile.gettempdir(), "below")
while True:
    folder.mkdir(parents=True, exist_ok=True)
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    monkeypatch.delenv(settings.SYSTEM_TMPDIR, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_nobody_else_reads_it_or_knows_its_name(tmp_path: Path):
    """The sockets of steps' workers are in it."""
    names = set()
    for number in range(2):
        temporary = Temporary(Marker(str(number)))
        temporary.begin()
        (folder,) = tmp_path.glob("pipeline-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(folder)
        names.add(folder)
        temporary.end()
    assert len(names) == 2


def test_a_process_that_still_writes_to_it_ends_with_it(tmp_path: Path):
    temporary = Temporary(Marker("one"))
    temporary.begin()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", WRITER], **pipes) as writer:
        try:
            assert writer.stdout
            writer.stdout.readline()
            temporary.end()
            assert not list(tmp_path.glob("pipeline-*"))
        finally:
            writer.kill()


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_process_that_a_killed_step_has_left_ends_with_it(tmp_path: Path, status: str):
    """It is not our child, and makes the folder again whenever that has gone."""
    temporary = Temporary(Marker("one"))
    temporary.begin()
    words = [sys.executable, "-c", STARTER, MAKER]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    stray = psutil.Process(int(done.stdout))
    try:
        temporary.end(status=status)
        with contextlib.suppress(psutil.NoSuchProcess):
            assert stray.status() == psutil.STATUS_ZOMBIE  # whose end nobody has asked for yet
        assert not list(tmp_path.glob("pipeline-*"))
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            stray.kill()


def test_an_interruption_at_its_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watcher, "start", interrupt)
    temporary = Temporary(Marker("one"))
    with pytest.raises(KeyboardInterrupt):
        temporary.begin()
    temporary.end(status="KILLED")
    assert not list(tmp_path.glob("pipeline-*"))
    assert not list((tmp_path / "state" / "running").iterdir())
    assert tempfile.gettempdir() == str(tmp_path)


def test_a_trial_that_runs_again_removes_what_its_killed_process_had(tmp_path: Path):
    folder = tmp_path / "pipeline-0123abcd"
    folder.mkdir()
    killed = Marker("one")
    killed.note(temporary=str(folder))
    killed.release()
    again = Temporary(Marker("one"))
    again.begin()
    assert not folder.exists()
    again.end()
    assert not list((tmp_path / "state" / "running").iterdir())
