"""Steps on other machines: what MLflow asks of them, and how their results come back."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.exceptions import MlflowException
from omegaconf import OmegaConf

from pipeline.core.errors import PipelineError
from pipeline.orchestration import backends
from pipeline.provenance import origin
from pipeline.steps import folders
from pipeline.steps.context import StepContext
from pipeline.steps.folders import library
from tests.support import servers
from tests.support.clusters import DIGEST, TAG, Cluster, cluster
from tests.support.paths import POKEMON, ROOT
from tests.support.runs import Checkout, environment

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: "", namespace: ml}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - env:
            - name: TRACKIO_WRITE_TOKEN
              valueFrom: {secretKeyRef: {name: pipeline, key: TRACKIO_WRITE_TOKEN}}
"""
FAR = """
    import os, shutil, subprocess, sys
    from pathlib import Path
    from mlflow.projects import SubmittedRun
    from mlflow.projects.backend.abstract_backend import AbstractBackend
    from mlflow.projects import utils

    class Submitted(SubmittedRun):
        def __init__(self, run_id, process):
            self._run_id, self.process = run_id, process
        run_id = property(lambda self: self._run_id)
        def wait(self):
            return self.process.wait() == 0
        def cancel(self):
            self.process.kill()
        def get_status(self):
            return None

    class Far(AbstractBackend):
        def run(self, project_uri, entry_point, params, version, backend_config, tracking_uri,
                experiment_id):
            if backend_config.get("full"):
                raise RuntimeError("the queue is full")
            if backend_config.get("lazy"):
                run = utils.get_or_create_run(
                    None, project_uri, experiment_id, project_uri, version, entry_point, params)
                return Submitted(run.info.run_id, subprocess.Popen(["true"]))
            folder = Path(backend_config["folder"])
            shutil.copytree(project_uri, folder)
            project = utils.load_project(folder)
            run = utils.get_or_create_run(
                None, project_uri, experiment_id, folder, version, entry_point, params)
            command = utils.get_entry_point_command(project, entry_point, params, None)
            env = utils.get_run_env_vars(run.info.run_id, experiment_id)
            env |= {"PATH": os.environ["PATH"], "HOME": str(folder), **backend_config["secrets"]}
            process = subprocess.Popen(["sh", "-c", command[0]], cwd=folder, env=env)
            return Submitted(run.info.run_id, process)
"""


@dataclass
class Site:
    """Servers that both places reach, another machine, and a checkout to run from."""

    checkout: Checkout
    cluster: Cluster
    client: mlflow.MlflowClient
    env: dict[str, str]

    def run(self, *overrides: str, **env: str):
        """Run main.py with the servers."""
        return self.checkout.run(*overrides, **{**self.env, **env})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "server").mkdir()
    (folder / "machine").mkdir()
    with (
        servers.mlflow_server(folder / "server", f"sqlite:///{folder / 'server.db'}") as tracking,
        servers.trackio_server(folder / "server") as tracker,
        cluster(folder / "machine", TRACKIO_WRITE_TOKEN=servers.TOKEN) as machine,
    ):
        checkout = Checkout(folder / "home")
        env = prepare(checkout.home, f"127.0.0.1:{machine.port}")
        shared = {"MLFLOW_TRACKING_URI": tracking, "TRACKIO_SERVER_URL": tracker}
        yield Site(checkout, machine, mlflow.MlflowClient(tracking), env | shared)


def prepare(home: Path, address: str) -> dict[str, str]:
    """The files and variables by which the clients find the machine, as a user would give them."""
    (home / "job.yaml").write_text(JOB)
    kubernetes = {
        "kube-job-template-path": "job.yaml",
        "repository-uri": "registry.example/pipeline",
        "image": "registry.example/base:1",
    }
    (home / "kubernetes.json").write_text(json.dumps(kubernetes))
    (home / "databricks.json").write_text(json.dumps({"spark_version": "15", "num_workers": 1}))
    user = {"name": "me", "user": {"token": "kube-token"}}
    there = {"name": "there", "cluster": {"server": f"http://{address}"}}
    context = {"name": "there", "context": {"cluster": "there", "user": "me"}}
    config = {"clusters": [there], "users": [user], "contexts": [context]}
    config |= {"apiVersion": "v1", "kind": "Config", "current-context": "there"}
    (home / "kubeconfig").write_text(yaml.safe_dump(config))
    docker = home / "bin" / "docker"  # MLflow asks `docker info` whether there is one at all
    docker.parent.mkdir()
    docker.write_text("#!/bin/sh\n")
    docker.chmod(0o755)
    (home / "plugin" / "far-1.dist-info").mkdir(parents=True)
    (home / "plugin" / "far.py").write_text(textwrap.dedent(FAR))
    (home / "plugin" / "far-1.dist-info" / "METADATA").write_text("Name: far\nVersion: 1\n")
    entry = "[mlflow.project_backend]\nfar = far:Far\n"
    (home / "plugin" / "far-1.dist-info" / "entry_points.txt").write_text(entry)
    return {
        "PATH": f"{docker.parent}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(home / "plugin"),
        "DOCKER_HOST": f"tcp://{address}",
        "KUBECONFIG": str(home / "kubeconfig"),
        "DATABRICKS_HOST": f"http://{address}",
        "DATABRICKS_TOKEN": "dapi-token",
    }


KUBERNETES = ("main.backend=kubernetes", "main.backend_config=kubernetes.json")


def test_kubernetes_is_sent_an_image_and_a_job_and_its_steps_results_come_back(site: Site):
    done = site.run(*KUBERNETES, "main.steps=[1,2]")
    assert done.status == 0, done.err + done.out
    assert done.states[:2] == ["ran", "ran"]
    assert list(done.outputs()) == ["pokemon.csv", "clean_data.csv"]

    jobs = site.cluster.bodies(r"/jobs$|/jobs\?")
    assert len(jobs) == 2
    container = jobs[1]["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["python", "script.py"]
    assert container["image"] == f"{TAG}@{DIGEST}"
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])", jobs[1]["metadata"]["name"])
    assert jobs[1]["metadata"]["namespace"] == "ml"
    told = {entry["name"]: entry.get("value") for entry in container["env"]}
    run_id = done.summary["steps"]["2-ETL"]["mlflow_run"]
    assert told["MLFLOW_RUN_ID"] == run_id
    assert told["MLFLOW_TRACKING_URI"] == site.env["MLFLOW_TRACKING_URI"]
    assert site.cluster.bodies(r"/push") != []
    assert "Bearer kube-token" in site.cluster.tokens

    run = site.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.project.backend"] == "kubernetes"
    assert run.data.tags["mlflow.parentRunId"] == done.summary["mlflow_run"]
    assert run.data.params["artifact_name"] == "clean_data.csv"
    assert "report.json" in {file.path for file in site.client.list_artifacts(run_id)}
    sent = str(jobs) + (site.cluster.code / "handed_over.json").read_text()
    assert servers.TOKEN not in sent + str(run.to_dictionary())
    assert str(site.checkout.state) not in sent

    asked = len(site.cluster.requests)
    again = site.run(*KUBERNETES, "main.steps=[1,2]")
    assert again.states[:2] == ["cached", "cached"]
    assert len(site.cluster.requests) == asked


def test_databricks_is_sent_the_project_and_a_job(site: Site):
    options = ("main.backend=databricks", "main.backend_config=databricks.json")
    done = site.run(
        *options, "main.steps=[1]", "data.retries=1", "data.artifact_description='a $x'"
    )
    assert done.status == 0, done.err + done.out
    assert done.outputs()["pokemon.csv"]["version"] == "v0"
    (job,) = site.cluster.bodies(r"/runs/submit")
    assert job["new_cluster"] == {"spark_version": "15", "num_workers": 1}
    assert job["shell_command_task"]["env_vars"]["MLFLOW_TRACKING_URI"].startswith("http:")
    assert {"pypi": {"package": f"mlflow=={mlflow.__version__}"}} in job["libraries"]
    assert "Bearer dapi-token" in site.cluster.tokens
    tags = site.client.get_run(done.summary["steps"]["1-Download_data"]["mlflow_run"]).data.tags
    assert tags["mlflow.databricks.runURL"] == "https://example/7"


def test_a_plugins_backend_is_waited_for_and_a_steps_own_words_come_back(
    site: Site, tmp_path: Path
):
    config = {"folder": f"{tmp_path}/far", "secrets": {"TRACKIO_WRITE_TOKEN": servers.TOKEN}}
    (tmp_path / "far.json").write_text(json.dumps(config))
    options = ("main.backend=far", f"main.backend_config={tmp_path}/far.json", "main.steps=[1]")
    done = site.run(*options, "data.sha256=" + "0" * 64)
    assert done.status == 1
    assert "1-Download_data failed: " in done.err
    assert "0" * 64 in done.err
    assert "Traceback" not in done.err

    (tmp_path / "far.json").write_text(json.dumps({"lazy": True}))
    silent = site.run(*options, "main.force=true")
    assert silent.status == 1
    assert "1-Download_data ended on main.backend=far and reported nothing" in silent.err
    failed = site.client.search_runs(["1"], "attributes.status = 'FAILED'")
    assert len(failed) == 4  # both runs, and the step in each


@contextlib.contextmanager
def one_that_never_answers() -> Iterator[tuple[int, threading.Event]]:
    """A server's port, and the event that somebody has connected to it."""
    connected = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                kept.append(listening.accept()[0])
                connected.set()

        kept: list[socket.socket] = []
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listening.getsockname()[1], connected
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in kept:
                one.close()


def test_an_interrupted_run_cancels_its_job(site: Site):
    with one_that_never_answers() as (port, connected):
        address = f"data.file_url=http://127.0.0.1:{port}/pokemon.csv"
        running = site.checkout.start(*KUBERNETES, "main.steps=[1]", address, **site.env)
        assert connected.wait(120)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 130, out
    assert site.cluster.requests[-1][0] == "DELETE"
    assert "interrupted in 1-Download_data" in out
    killed = site.client.search_runs(["1"], "attributes.status = 'KILLED'")
    assert len(killed) == 2


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
        ("local", {"folder": "x"}, ["main.backend=local has no use"]),
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
