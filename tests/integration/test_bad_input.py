"""Every mistake a user can make: a few lines that name it, exit status 1, and nothing half-made."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import POKEMON, ROOT
from tests.support.runs import SMALL, Checkout, Finished, environment
from tests.support.servers import free_port

LINES = POKEMON.read_text(encoding="utf-8").splitlines()
HEADER = LINES[0]


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
        (["main.experimet_name=x"], ["main.experimet_name", "did you mean 'main.experiment_name'"]),
        (["+main.nmae=x"], ["main.nmae"]),
        (["split.test_size=lots"], ["split.test_size='lots' is not a number"]),
        (["split.random_state=1.5"], ["split.random_state='1.5' is not a whole number"]),
        (["split.test_size=0"], ["split.test_size=0.0", "between 0 and 1"]),
        (["split.test_size=1.2"], ["split.test_size=1.2", "between 0 and 1"]),
        (["main.steps=[2-ELT]"], ["'2-ELT'", "did you mean '2-ETL'"]),
        (["main.steps=[]"], ["main.steps is empty"]),
        (["main.tracker=wanb"], ["'wanb'", "did you mean 'wandb'"]),
        (["main.env_manager=cnda"], ["'cnda'", "did you mean 'conda'"]),
        (["model=forest"], ["model=forest", "random_forest"]),
        (["data=pokmon"], ["data=pokmon", "did you mean 'pokemon'"]),
        (["main.project_name=a b"], ["'a b'", "letters, digits"]),
        (["main.project_name='a"], ["main.project_name='a"]),
        (["model.artifact_name=../x"], ["'../x' can't name an artifact"]),
        (["split.train_artifact_name=test_data.csv"], ["two artifacts", "test_data.csv"]),
        (["data.file_url=https://me:secret@example.com/x.csv"], ["user name or password"]),
        (["data=csv", "data.file_url=???"], ["data.file_url is not set"]),
        (["main.experiment_name="], ["MLflow, whose store is sqlite", "experiment name"]),
    ],
)
def test_settings(checkout: Checkout, overrides: list[str], said: list[str]):
    _, told = refused(checkout, *overrides)
    assert all(words in told for words in said), told
    assert "secret" not in told


def test_wandb_modes_that_cannot_read_back(checkout: Checkout):
    for mode in ("offline", "disabled", "dryrun"):
        done, told = refused(
            checkout, "main.tracker=wandb", WANDB_MODE=mode, WANDB_API_KEY="x" * 40
        )
        assert f"WANDB_MODE={mode}" in told
        assert "main.tracker=trackio" in told
        assert "running" not in done.out


def test_wandb_without_a_key(checkout: Checkout):
    _, told = refused(checkout, "main.tracker=wandb")
    assert "wandb login" in told
    assert "main.tracker=trackio" in told


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


def rows(*changed: str, header: str = HEADER) -> str:
    return "\n".join([header, *changed]) + "\n"


WITHOUT_TARGET = rows(
    *(line.rpartition(",")[0] for line in LINES[1:]), header=HEADER.rpartition(",")[0]
)
BAD_DATA = [
    # what the address serves, further overrides, the step that refuses it, words of the message
    ("", [], "1-Download_data", ["empty file"]),
    (HEADER + "\n", [], "1-Download_data", ["a header and no rows"]),
    ("<!DOCTYPE html><html></html>", [], "1-Download_data", ["a web page"]),
    ("\n".join(LINES), ["data.sha256=" + "0" * 64], "1-Download_data", ["data.sha256"]),
    ("\n".join(LINES), ["data.max_bytes=10"], "1-Download_data", ["data.max_bytes=10"]),
    ("\n".join(LINES).replace(",", ";"), [], "2-ETL", ["';'", "etl.sep"]),
    ("\n".join(LINES).encode("latin-1", "replace"), [], "2-ETL", ["utf-8", "etl.encoding"]),
    ("\n".join(LINES).replace(",45,", ",many,"), [], "2-ETL", ["hp", "'many'"]),
    (WITHOUT_TARGET, [], "2-ETL", ["legendary: no such column"]),
    (
        rows(*(f",{line.partition(',')[2]}" for line in LINES[1:])),
        [],
        "2-ETL",
        ["no row is left of 800", "missing number"],
    ),
    (
        WITHOUT_TARGET,
        ["data=csv", "model.target=legendary"],
        "2-ETL",
        ["etl.required", "'legendary'"],
    ),
    (
        "\n".join(line.replace(",True", ",False") for line in LINES),
        ["split.stratify=null"],
        "4-Training_model",
        ["one class only"],
    ),
    (
        "\n".join([LINES[0], *(li for li in LINES[1:] if li.endswith("False"))][:90] + LINES[-1:]),
        [],
        "3-Split_dataset",
        ["a single member", "split.stratify=null"],
    ),
    (
        "\n".join(LINES),
        ["model.target=legendry", "split.stratify=null"],
        "4-Training_model",
        ["'legendry'", "did you mean 'legendary'"],
    ),
]


@pytest.mark.parametrize(("content", "overrides", "step", "said"), BAD_DATA)
def test_data(
    checkout: Checkout,
    tmp_path: Path,
    content: str | bytes,
    overrides: list[str],
    step: str,
    said: list[str],
):
    """The step that meets it says so, logs no artifact, and later steps are not started."""
    file = tmp_path / "data.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    known = set(checkout.state.glob(f"cache/{step}/*.json"))
    done, told = refused(checkout, SMALL, f"data.file_url={file.as_uri()}", *overrides)
    assert told.startswith(f"error: {step} failed: "), told
    assert all(words in told for words in said), told
    assert "full log: " in told
    summary = done.summary
    assert summary["status"] == "failed"
    assert summary["steps"][step]["status"] == "failed"
    assert summary["steps"][step]["outputs"] == []
    assert list(summary["steps"])[-1] == step
    assert set(checkout.state.glob(f"cache/{step}/*.json")) == known


def test_a_missing_file_and_a_404(checkout: Checkout):
    _, told = refused(checkout, "data.file_url=file:///nowhere/data.csv")
    assert "there is no file /nowhere/data.csv" in told


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
