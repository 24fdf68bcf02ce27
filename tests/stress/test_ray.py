"""A sweep on a real Ray cluster: two nodes, servers for the state, and one node killed."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from omegaconf import OmegaConf

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.sweeps import ray_cluster
from pipeline.tracking import choice
from tests.support import servers
from tests.support.faulty_server import Server
from tests.support.paths import POKEMON, ROOT
from tests.support.ray_nodes import end, node
from tests.support.runs import Checkout, await_step


def copy_of_the_code(folder: Path) -> Path:
    """A checkout that nobody but the client knows of."""
    kept = shutil.ignore_patterns(".*", "tests", "docs", "benchmarks", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=kept)
    return folder


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for the names of Ray's sockets."""
    folder = Path("/tmp") / f"ray{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_a_worker_does_not_choose_another_tracker(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(settings.TRACKER, "wandb")  # what the client chose for "auto"
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(choice, "wandb_credentials", lambda: False)
    hydra = {"job": {}, "sweep": {"dir": "runs/one"}}
    trial = {"hydra": hydra, "main": {"tracker": "auto"}, "provenance": {}}
    sent = ray_cluster._numbered(OmegaConf.create(trial), 3)
    with pytest.raises(PipelineError, match="no W&B key was found"):
        choice.choose(sent.main.tracker)


@pytest.mark.skipif(" " in sys.executable, reason="Ray can't start from a path with a space")
def test_sweep_outlives_a_node(tmp_path: Path, short_path: Path, server: Server):
    home, (head, other) = tmp_path / "servers", (short_path / "a", short_path / "b")
    for folder in (home, head, other):
        folder.mkdir()
    port, client_port = servers.free_port(), servers.free_port()
    options = ["--head", "--port", str(port), "--ray-client-server-port", str(client_port)]
    client = Checkout(tmp_path / "client", root=copy_of_the_code(tmp_path / "code"))
    overrides = (
        "-m",
        "hydra/launcher=ray",
        f"hydra.launcher.address=ray://127.0.0.1:{client_port}",
        f"data.file_url={server.page('/pokemon.csv', POKEMON.read_bytes())}",
        "model.params.n_estimators=2,3,4,5,6,7,8,9",
        "split.test_size=0.2,0.3",
        "etl.fill={nothing: 0}",
        "main.backend=prefork",  # trials of one worker share imports
    )
    with (
        servers.mlflow_server(home, f"sqlite:///{home / 'server.db'}") as mlflow_url,
        servers.trackio_server(home) as trackio_url,
    ):
        shared = {"MLFLOW_TRACKING_URI": mlflow_url, "TRACKIO_SERVER_URL": trackio_url}
        refused = client.run(*overrides, **shared)
        assert refused.status == 1
        assert (
            f"no Ray cluster answers at hydra.launcher.address=ray://127.0.0.1:{client_port}"
            in refused.err
        )
        assert "Traceback" not in refused.err
        with (
            node(head, *options, "--include-dashboard", "false"),
            node(other, "--address", f"127.0.0.1:{port}") as victim,
        ):
            text = run_and_kill(client.start(*overrides, **shared), victim)
        assert "its worker died, it is retried" in text
        assert text.count("warning: etl.fill names 'nothing'") == 1
        check_records(mlflow.MlflowClient(mlflow_url), text)
    assert server.pages["/pokemon.csv"].asked == 1
    assert servers.TOKEN not in logs(short_path)
    assert not (tmp_path / "code" / ".pipeline").exists()


def run_and_kill(sweep: subprocess.Popen, victim: int) -> str:
    """Kill a node that is at a trial when three have ended; what the sweep said until its end."""
    said, alive = [], True
    for line in sweep.stdout:
        said.append(line)
        if alive and sum(one.startswith("trial ") for one in said) == 3:
            await_step(victim)  # of a trial on that node
            end(victim)
            alive = False
    assert sweep.wait() == 0, "".join(said)
    return "".join(said)


def check_records(client: mlflow.MlflowClient, text: str) -> None:
    """All trials are below the sweep's run; what they share has run once."""
    runs = client.search_runs(["1"], max_results=1000)
    by_id = {run.info.run_id: run for run in runs}
    (parent,) = (run for run in runs if run.data.tags.get("pipeline.kind") == "sweep")
    assert parent.info.status == "FINISHED", text
    below = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    finished = [run for run in below if run.info.status == "FINISHED"]
    assert {int(run.data.tags["pipeline.trial"]) for run in finished} == set(range(16))
    assert all("objective" in run.data.metrics for run in finished)
    assert {run.info.status for run in below} <= {"FINISHED", "KILLED"}  # those that were cut off
    steps = Counter(
        run.info.run_name
        for run in runs
        if run.data.tags.get("mlflow.parentRunId") in by_id
        and re.match(r"[123]-", run.info.run_name)
        and run.info.status == "FINISHED"
    )
    assert steps == {"1-Download_data": 1, "2-ETL": 1, "3-Split_dataset": 2}
    assert not any("/code/" in run.data.tags.get("mlflow.source.name", "") for run in finished)


def logs(folder: Path) -> str:
    """All that Ray has written down."""
    files = [path for path in folder.glob("*/session_*/logs/**/*") if path.is_file()]
    return "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
