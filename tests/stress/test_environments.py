"""Environments that are built for the steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.environment_variables import MLFLOW_ENV_ROOT

from pipeline.orchestration.execution import environments
from tests.support.paths import ROOT
from tests.support.runs import SMALL, Checkout

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
BUILT = "antlr4-python3-runtime"  # Hydra's, the one package without a wheel


def test_a_project_of_its_own_environments(tmp_path: Path):
    """MLflow builds each step's environment with uv; the results are the same."""
    done = Checkout(tmp_path).run(SMALL, "main.env_manager=uv")
    assert done.status == 0, done.err
    assert done.states == ["ran"] * 4
    assert "building 4 environments with uv, side by side" in done.out
    root = tmp_path / ".mlflow" / "envs" / environments.PYTHON_FOLDER
    built = [path for path in root.iterdir() if path.is_dir()]
    assert len(built) == 4
    assert all(list(path.rglob("trackio/__pycache__/*.pyc")) for path in built)


def test_uv_builds_on_the_python_that_runs_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(MLFLOW_ENV_ROOT.name, str(tmp_path / "envs"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    spec = "name: a\ndependencies: [python=3.99, pip, pip: [idna==3.20]]\n"
    (tmp_path / "conda.yml").write_text(spec)
    python = environments.build(tmp_path, "uv")
    assert python == environments.python_of(tmp_path)
    assert (python.parent / f"python{environments.PYTHON}").exists()


@pytest.mark.parametrize("platform", ["linux", "macos"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_locks_are_for_each_python_and_platform(version: str, platform: str):
    """Every package as it is locked, of its wheel."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "-q", "pyproject.toml"),
            *("--all-extras", "-c", "requirements-dev.lock", "--no-header", "--no-annotate"),
            *("--python-version", version, "--python-platform", platform),
            *("--only-binary", ":all:", "--no-binary", BUILT),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lock = (ROOT / "requirements-dev.lock").read_text()
    pins = {line.partition(" ;")[0] for line in lock.splitlines()}
    assert {line for line in done.stdout.splitlines() if "==" in line} <= pins


@pytest.mark.parametrize(
    ("version", "told"),
    [("", "is not a Python: install it"), ("3.9", "is Python 3.9, and the pipeline needs")],
)
def test_make_refuses_another_python(tmp_path: Path, version: str, told: str):
    python = tmp_path / "bin" / "python"
    if version:
        python.parent.mkdir()
        python.write_text(f"#!/bin/sh\necho {version}\n")
        python.chmod(0o755)
    for name in ("Makefile", "requirements.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    command = ["make", "-s", "run", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / ".venv").exists()
