"""Steps for other machines: settings that are refused, and what is sent along with a step."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow.exceptions import MlflowException
from omegaconf import OmegaConf

from pipeline.core.errors import PipelineError
from pipeline.orchestration.execution import backends
from pipeline.provenance import origin
from pipeline.steps import folders
from pipeline.steps.context import StepContext
from pipeline.steps.folders import library
from tests.support.paths import POKEMON, ROOT
from tests.support.runs import environment
from tests.support.sites import JOB, prepare


def choose(
    name: str, config: object = None, tracker: str = "wandb", timeout: float | None = None
) -> backends.Backend:
    """The backend of a configuration."""
    main = {"backend": name, "backend_config": config, "timeout": timeout}
    return backends.choose(OmegaConf.create({"main": main}), tracker)


GOOD = {"kube-job-template-path": "job.yaml", "repository-uri": "r", "image": "i"}


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("kubernets", None, ["did you mean 'kubernetes'?", "databricks"]),
        ("local", {"folder": "x"}, ["main.backend=local does not use it"]),
        ("kubernetes", "no.json", ["'no.json' can't be read"]),
        ("kubernetes", "job.yaml", ["'job.yaml' can't be read"]),
        ("kubernetes", "list.json", ["holds no settings"]),
        ("kubernetes", {"image": "i"}, ["lacks kube-job-template-path, repository-uri"]),
        ("kubernetes", GOOD | {"kube-job-template-path": "no.yaml"}, ["can't be read"]),
        ("kubernetes", GOOD | {"kube-job-template-path": "list.json"}, ["is no Job"]),
        ("databricks", None, ["the cluster to run on"]),
    ],
)
def test_settings_that_cannot_work_are_told_before_anything_runs(
    name: str, config: object, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(PipelineError) as refused:
        choose(name, config)
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize("name", ["kubernetes", "databricks", "far"])
def test_a_limit_that_nobody_would_keep_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare(tmp_path, "127.0.0.1:9")
    monkeypatch.syspath_prepend(tmp_path / "plugin")
    with pytest.raises(PipelineError, match=f"timeout has no effect with main.backend={name}"):
        choose(name, {"num_workers": 1}, timeout=600)
    assert choose("local", timeout=600).name == "local"


def test_folders_of_this_machine_are_no_servers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(PipelineError, match="needs an MLflow server"):
        choose("databricks", {"num_workers": 1})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    monkeypatch.delenv("TRACKIO_SERVER_URL", raising=False)
    with pytest.raises(PipelineError, match="TRACKIO_SERVER_URL"):
        choose("databricks", {"num_workers": 1}, "trackio")
    backend = choose("databricks", {"num_workers": 1})
    assert backend.options()["backend_config"] == {"new_cluster": {"num_workers": 1}}


def test_what_a_client_of_somebody_elses_raises_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare(tmp_path, "127.0.0.1:9")
    monkeypatch.syspath_prepend(tmp_path / "plugin")
    backend = choose("far", {"full": True})
    with pytest.raises(MlflowException, match="RuntimeError: the queue is full"):
        backends.run(
            backend,
            "2-ETL",
            {},
            tmp_path / "bundle",
            StepContext(),
            experiment_id="1",
            parameters={
                "input_artifact": "a:v0",
                "artifact_name": "b",
                "artifact_type": "c",
                "artifact_description": "d",
            },
        )


def test_a_bundle_runs_without_the_repository_and_says_where_it_cannot_report(tmp_path: Path):
    arguments = {
        "file_url": POKEMON.as_uri(),
        "artifact_name": "raw.csv",
        "artifact_type": "raw_data",
        "artifact_description": 'it\'s a "table" of $x',
    }
    folder = backends.bundle(
        backends.Backend("far"), "1-Download_data", arguments, tmp_path / "code", StepContext()
    )
    env = environment(tmp_path, PIPELINE_TRACKER="trackio")
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MLFLOW_RUN_ID is not set" in done.stderr
    assert (folder / ".pipeline" / "trackio").is_dir()  # it ran, and nothing of ours was there


def test_every_bundle_has_all_it_imports_and_mlflow(tmp_path: Path):
    for source in sorted(path.parent for path in ROOT.glob("[0-9]*-*/MLproject")):
        place = tmp_path / source.name
        folder = backends.bundle(backends.Backend("far"), source.name, {}, place, StepContext())
        sent = {str(path.relative_to(folder)) for path in folder.rglob("*.py")}
        needed = library(source / "script.py")
        own = {path.name for path in source.glob("*.py")}
        assert sent == own | {str(path.relative_to(ROOT)) for path in needed}
        packages = yaml.safe_load((folder / "conda.yml").read_text())["dependencies"][-1]["pip"]
        assert any(package.startswith("mlflow") for package in packages)


def test_a_bundle_says_where_the_step_belongs_and_names_no_file_of_this_machine(tmp_path: Path):
    known = {"run_id": "20260101-000000-abcdef", "commit": "c" * 40, "dirty": True}
    here = {"report": "/here/report", "copies": "/here/copies"}
    folder = backends.bundle(
        backends.Backend("far"), "2-ETL", {}, tmp_path / "bundle", StepContext(**known, **here)
    )
    told = json.loads((folder / "handed_over.json").read_text())["context"]
    assert StepContext(**told) == StepContext(
        **known, report="mlflow:", developer=origin.developer()
    )


def test_a_bundle_keeps_the_folders_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("2-ETL", "pipeline"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for module in (backends, folders):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    for number, place in enumerate(("rules", "lookup")):
        (tmp_path / "2-ETL" / place).mkdir()
        (tmp_path / "2-ETL" / place / "types.csv").write_text(f"{number}\n")
    folder = backends.bundle(
        backends.Backend("far"), "2-ETL", {}, tmp_path / "bundle", StepContext()
    )
    assert (folder / "rules/types.csv").read_text() == "0\n"
    assert (folder / "lookup/types.csv").read_text() == "1\n"
