"""A run executes nothing that the checkout's git configuration names, and its files are private."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core import settings
from tests.support.clones import Clone, git

ASKING = """    import subprocess
    subprocess.run(["git", "status"], check=True)
"""
GO = "def go(args: argparse.Namespace, run: steps.Run) -> None:\n"


def test_a_run_keeps_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The checkout's file monitor and hooks do not run, whoever calls git, MLflow and steps too."""
    clone = Clone.make(tmp_path)
    clone.edit("2-ETL/script.py", GO, GO + ASKING)
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {ran}\n")
    program.chmod(0o755)
    (clone.root / ".git" / "hooks" / "post-index-change").symlink_to(program)
    git(clone.root, "config", "core.fsmonitor", str(program))
    (clone.root / ".git" / "info" / "attributes").write_text("*.py filter=any\n")
    for name in ("clean", "smudge"):
        git(clone.root, "config", f"filter.any.{name}", f"echo filter >> {ran}; cat")
    git(clone.root, "status")
    git(clone.root, "diff")
    assert "filter" in ran.read_text()  # a user's own git does all of that
    ran.unlink()

    clone.state.mkdir(mode=0o755)
    monkeypatch.delenv(settings.UMASK, raising=False)
    known = {*objects(clone.root)}  # those of the repository that it is a clone of
    before = os.umask(0o022)
    try:
        done = clone.run()
        compared = clone.tool("compare", "last", "--output", clone.home / "runs.csv")
    finally:
        os.umask(before)
    assert done.states == ["ran"] * 4, done.err + done.out
    assert not ran.exists()
    assert compared.status == 0, compared.err
    assert not ran.exists()

    assert clone.state.stat().st_mode & 0o777 == 0o700
    paths = [path for path in clone.state.rglob("*") if not path.is_symlink()]
    assert [path for path in paths if path.stat().st_mode & 0o077] == []
    assert (clone.home / "runs.csv").stat().st_mode & 0o777 == 0o644
    made = {*objects(clone.root)} - known
    assert made  # the run's snapshot
    assert all(path.stat().st_mode & 0o044 for path in made)  # others may share the repository


def objects(repository: Path) -> list[Path]:
    """The files of a repository's objects."""
    return [path for path in (repository / ".git" / "objects").rglob("*") if path.is_file()]


def test_a_step_alone_keeps_to_itself(tmp_path: Path):
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    env = {**os.environ, "PIPELINE_STATE_DIR": str(state)}
    clone = Clone.make(tmp_path)
    step = clone.root / "2-ETL" / "script.py"
    subprocess.run(
        [sys.executable, step, "--input_artifact=no:v0", "--artifact_name=a", "--artifact_type=b",
         "--artifact_description=c"],
        env=env, check=False, capture_output=True,
    )  # fmt: skip
    assert state.stat().st_mode & 0o777 == 0o700
    assert [p for p in state.rglob("*") if p.stat().st_mode & 0o077] == []
