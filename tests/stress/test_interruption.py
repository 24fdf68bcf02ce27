"""Ctrl-C, and processes that are killed without a word, at any moment."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest

from pipeline.orchestration.execution import mlflow_project, watcher
from pipeline.orchestration.execution.backends import Backend
from tests.support import servers
from tests.support.runs import HANGS, SMALL, Checkout, await_step

MOMENTS = 6  # `make attack` draws 60, beside those of test_kills and test_sweep_kills
PREFORK = "main.backend=prefork"  # more processes to leave behind


@pytest.fixture
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """A server that accepts a connection, tells so, and says nothing."""
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            connection, _ = server.accept()
            asked.set()
            connection.recv(1 << 16)
            connection.recv(1)  # until the client is gone

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/data.csv", asked
        thread.join(10)


def statuses(checkout: Checkout) -> list[str]:
    """The states of all runs in MLflow."""
    client = mlflow.MlflowClient(f"sqlite:///{checkout.state / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.info.status for run in client.search_runs(experiments)]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_the_step_and_all_its_processes(
    tmp_path: Path, silent_server: tuple[str, threading.Event], sent: signal.Signals
):
    url, asked = silent_server
    checkout = Checkout(tmp_path)
    process = checkout.start(f"data.file_url={url}", PREFORK)
    assert asked.wait(HANGS)
    below = psutil.Process(process.pid).children(recursive=True)
    assert any("script.py" in " ".join(child.cmdline()) for child in below)
    temporary = temporary_folder(checkout)
    assert list(temporary.glob("1-Download_data-*"))
    process.send_signal(sent)
    out, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 130
    assert "interrupted in 1-Download_data" in out
    assert "Traceback" not in out
    assert not [child for child in below if child.is_running()]
    assert set(statuses(checkout)) == {"KILLED"}
    summary = json.loads(next(checkout.state.glob("runs/*/summary.json")).read_text())
    assert summary["steps"]["1-Download_data"]["status"] == "killed"
    assert not list(checkout.state.glob("running/*"))
    assert not temporary.exists()


def test_a_dead_orchestrator_takes_its_step_along_and_is_marked_later(
    tmp_path: Path, silent_server: tuple[str, threading.Event]
):
    """Also by a start that has nothing else to do."""
    url, asked = silent_server
    checkout = Checkout(tmp_path)
    assert checkout.run("main.steps=[1]").status == 0
    process = checkout.start(f"data.file_url={url}", PREFORK)
    assert asked.wait(HANGS)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=HANGS)
    psutil.wait_procs(below, timeout=60)
    assert not [child for child in below if child.is_running()]
    assert "RUNNING" in statuses(checkout)
    temporary = temporary_folder(checkout)
    assert list(temporary.glob("1-Download_data-*"))
    assert checkout.run("main.steps=[1]").states[0] == "cached"
    assert sorted(statuses(checkout)) == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    assert not list(checkout.state.glob("running/*"))
    assert not temporary.exists()


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
@pytest.mark.parametrize("sweeper", ["basic", "optuna"])
def test_a_sweep_that_is_killed_leaves_no_process(
    tmp_path: Path, temporary: Path, launcher: str, sweeper: str
):
    """Neither the launcher's workers nor steps, trackers or workers of a step."""
    words = ["-m", f"hydra/launcher={launcher}", f"hydra/sweeper={sweeper}", PREFORK]
    words += ["model.params.n_estimators=range(4,9)"]
    words += ["hydra.sweeper.n_trials=5"] if sweeper == "optuna" else []
    checkout = Checkout(tmp_path / "home")
    process = checkout.start(*words, TMPDIR=str(temporary))
    await_step(process.pid)
    below = [one for one in psutil.process_iter() if watcher.belongs(one, str(temporary))]
    process.kill()  # what belongs to it may have ended before it is looked for
    assert below
    assert psutil.wait_procs(below, timeout=60)[1] == []
    process.communicate(timeout=HANGS)
    assert checkout.run("main.steps=[1]", TMPDIR=str(temporary)).status == 0  # which tidies up
    assert "RUNNING" not in statuses(checkout)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_an_mlflow_server_that_dies_during_a_run_does_not_hold_it_up(
    tmp_path: Path, silent_server: tuple[str, threading.Event], sent: signal.Signals, stop: bool
):
    """After Ctrl-C the run ends, and without it too, once the step has; each says what to do."""
    url, asked = silent_server
    home = tmp_path / "server"
    home.mkdir()
    quick = ("main.tracker_timeout=5", "main.steps=[1,2]", "data.retries=0", "data.timeout=5")
    with servers.mlflow_server(home, f"sqlite:///{home / 'server.db'}") as address:
        checkout = Checkout(tmp_path / "home")
        process = checkout.start(f"data.file_url={url}", *quick, MLFLOW_TRACKING_URI=address)
        assert asked.wait(HANGS)
        group = server_group(int(address.rpartition(":")[2]))
        os.killpg(group, sent)
        if stop:
            process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=120)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
    assert process.returncode != 0
    assert "Traceback" not in told
    if stop:
        assert "interrupted in 1-Download_data; run again to continue" in told
    else:
        assert f"MLflow with the store {address} failed: " in told
        (log,) = checkout.state.glob("runs/*/main.log")  # there MLflow's HTTP library says it, too
        said = told.count(f"MLflow's server, {address}, does not answer; each request is retried")
        assert said == ("Retrying (" in log.read_text())


def server_group(port: int) -> int:
    """The process group of the server that listens on a port."""
    listening = (c for c in psutil.net_connections("tcp4") if c.status == psutil.CONN_LISTEN)
    return next(os.getpgid(c.pid) for c in listening if c.laddr.port == port)


def temporary_folder(checkout: Checkout) -> Path:
    """Where the run that is under way, or was when it was killed, keeps its temporary files."""
    (marker,) = checkout.state.glob("running/*.json")
    return Path(json.loads(marker.read_text())["temporary"])


def check_state(checkout: Checkout) -> None:
    """Nothing partial counts as finished: all that is recorded is there, byte for byte."""
    done = checkout.tool("verify")
    assert done.status == 0, done.out + done.err


def runs_script(process: psutil.Process) -> bool:
    """Whether a process is a step; one that has just ended is not."""
    try:
        return "script.py" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie too
        return False


def kill_at(checkout: Checkout, delay: float, victim: str, *overrides: str, **env: str) -> bool:
    """Run, and kill one process after a delay; whether there was still one to kill."""
    process = checkout.start(*overrides, **env)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        tree = psutil.Process(process.pid).children(recursive=True)
        steps = [child for child in tree if runs_script(child)]
        target = steps[-1] if victim == "step" and steps else process
        with contextlib.suppress(psutil.NoSuchProcess):  # a step that has just ended
            target.kill()
        process.communicate(timeout=HANGS)
        assert psutil.wait_procs(tree, timeout=60)[1] == []
        return True
    process.communicate()
    assert process.returncode == 0
    return False


def test_killed_at_many_moments_the_next_run_finishes(tmp_path: Path, temporary: Path):
    """At moments drawn with a fixed seed, the orchestrator or a step is killed.

    They are drawn from the seconds that a run seems to last here: more after one that was killed,
    fewer after one that had ended before. So three of four are hit, on a busy machine as well.
    """
    checkout, longest = Checkout(tmp_path / "home"), 8.0
    draw, settings, hits = random.Random(1), [SMALL, PREFORK], 0
    for number in range(MOMENTS):
        delay, victim = draw.uniform(0.03, 1) * longest, draw.choice(["step", "all"])
        cut = kill_at(checkout, delay, victim, *settings, TMPDIR=str(temporary))
        hits += cut
        longest *= 1.1 if cut else 0.7
        if number % 3 == 2:
            check_state(checkout)
        if not cut:  # all is done: give every step something to do again
            settings = [SMALL, PREFORK, f"etl.artifact_description=take {number}"]
            settings += [f"split.random_state={number}", f"data.timeout={30 + number}"]
    final = checkout.run(*settings, TMPDIR=str(temporary))
    assert final.status == 0, final.err
    check_state(checkout)
    expected = Checkout(tmp_path / "fresh").run(*settings)
    digests = [{n: o["digest"] for n, o in done.outputs().items()} for done in (final, expected)]
    assert digests[0] == digests[1]
    assert final.summary["metrics"] == expected.summary["metrics"]
    assert hits >= MOMENTS // 2
    assert "RUNNING" not in statuses(checkout)
    assert not list(checkout.state.glob("running/*"))
    assert not list(temporary.iterdir())


def test_a_step_that_was_killed_when_all_was_done(tmp_path: Path):
    """Its report has no error; the end of its log is what there is to tell."""
    report, log = tmp_path / "report.json", tmp_path / "step.log"
    report.write_text('{"outputs": []}')
    log.write_text("nearly there\n")
    told = mlflow_project._failure("2-ETL", report, log, Exception("exit 137"), Backend())
    assert "2-ETL failed; the end of its log:\nnearly there" in told.what
