"""Steps on other machines: what MLflow asks of them, and how their results come back."""

import contextlib
import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from tests.support import servers
from tests.support.clusters import DIGEST, TAG, cluster
from tests.support.runs import HANGS, Checkout
from tests.support.sites import Site, prepare

KUBERNETES = ("main.backend=kubernetes", "main.backend_config=kubernetes.json")


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
    assert "1-Download_data ended on main.backend=far without a report" in silent.err
    failed = site.client.search_runs(["1"], "attributes.status = 'FAILED'")
    assert len(failed) == 4  # both runs, and the step in each


def test_an_interrupted_run_cancels_its_job(site: Site):
    with one_that_never_answers() as (port, connected):
        address = f"data.file_url=http://127.0.0.1:{port}/pokemon.csv"
        running = site.checkout.start(*KUBERNETES, "main.steps=[1]", address, **site.env)
        assert connected.wait(120)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=HANGS)
    assert running.returncode == 130, out
    assert site.cluster.requests[-1][0] == "DELETE"
    assert "interrupted in 1-Download_data" in out
    killed = site.client.search_runs(["1"], "attributes.status = 'KILLED'")
    assert len(killed) == 2
