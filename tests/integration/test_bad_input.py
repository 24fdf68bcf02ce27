"""Every mistake a user can make: a few lines that name it, exit status 1, and nothing half-made."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import POKEMON, ROOT
from tests.support.runs import SMALL, Checkout, Finished, environment
from tests.support.servers import free_port

LINES = POKEMON.read_text(encoding="utf-8").splitlines()
ORDINARY = [line for line in LINES[1:] if line.endswith("False")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("home"))


def refused(checkout: Checkout, *overrides: str, **env: str) -> tuple[Finished, str]:
    """Run, and return how it ended and what was said; it must have failed, briefly."""
    done = checkout.run(*overrides, **env)
    assert done.status == 1, done.out
    assert done.err.startswith("error: "), done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 25
    return done, done.err


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["main.experimet_name=x"], ["did you mean 'main.experiment_name'"]),
        (["main.steps=[2-ELT]"], ["did you mean '2-ETL'"]),
        (
            ["main.experiment_name="],
            ["MLflow with the store sqlite", "experiment name"],
        ),  # MLflow's
    ],
)
def test_settings(checkout: Checkout, overrides: list[str], said: list[str]):
    """Each that there is: tests/unit/config/test_checks.py."""
    _, told = refused(checkout, *overrides)
    assert all(words in told for words in said), told


def test_a_wandb_mode_that_cannot_read_back(checkout: Checkout):
    done, told = refused(
        checkout, "main.tracker=wandb", WANDB_MODE="offline", WANDB_API_KEY="x" * 40
    )
    assert "WANDB_MODE=offline" in told
    assert "running" not in done.out


def test_an_mlflow_server_that_is_not_there(checkout: Checkout):
    port = free_port()
    uri = f"http://me:secret@127.0.0.1:{port}/mlflow"
    _, told = refused(checkout, MLFLOW_TRACKING_URI=uri)
    assert f"no MLflow server answers at MLFLOW_TRACKING_URI=http://127.0.0.1:{port}/mlflow" in told
    assert "secret" not in told
    assert not list(checkout.state.glob("running/*"))


def test_the_traceback_is_there_for_those_who_ask(checkout: Checkout):
    done = checkout.run("split.test_size=2", HYDRA_FULL_ERROR="1")
    assert done.status == 1
    assert "Traceback" in done.err


@pytest.mark.parametrize(
    ("content", "step", "said"),
    [
        ("<!DOCTYPE html><html></html>", "1-Download_data", ["a web page"]),
        ("\n".join(LINES).replace(",45,", ",many,"), "2-ETL", ["hp", "'many'"]),
        (
            "\n".join([LINES[0], *ORDINARY[:90], LINES[-1]]),
            "3-Split_dataset",
            ["a single member", "split.stratify=null"],
        ),
    ],
)
def test_data(checkout: Checkout, tmp_path: Path, content: str, step: str, said: list[str]):
    """The step that meets it says so, logs no artifact, and later steps are not started.

    Whatever else data can be: test_download.py here, test_tables.py, test_cleaning.py,
    test_splitting.py and test_training.py in tests/unit/science.
    """
    file = tmp_path / "data.csv"
    file.write_text(content)
    known = set(checkout.state.glob(f"steps/{step}/*.json"))
    done, told = refused(checkout, SMALL, f"data.file_url={file.as_uri()}")
    assert told.startswith(f"error: {step} failed: "), told
    assert all(words in told for words in said), told
    assert "full log: " in told
    summary = done.summary
    assert summary["status"] == "failed"
    assert summary["steps"][step]["status"] == "failed"
    assert summary["steps"][step]["outputs"] == []
    assert list(summary["steps"])[-1] == step
    assert set(checkout.state.glob(f"steps/{step}/*.json")) == known


def test_a_place_that_cannot_be_written(tmp_path: Path):
    """As root nothing is read-only, other than what is no disk."""
    done = subprocess.run(
        [sys.executable, "script.py", f"--file_url={POKEMON.as_uri()}", "--artifact_name=a.csv",
         "--artifact_type=raw_data", "--artifact_description=x"],
        cwd=ROOT / "1-Download_data",
        env=environment(tmp_path, PIPELINE_STATE_DIR="/proc/nowhere"),
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2].startswith("error in 1-Download_data: ")
    assert "/proc/nowhere" in done.stderr
    assert "Traceback" not in done.stderr
