"""Sweeps that are stopped and go on, and a study that two machines share."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support import servers
from tests.support.runs import HANGS, SMALL, Checkout, await_step
from tests.support.sweeps import Swept


def test_tuning_goes_on_after_an_interruption(tmp_path: Path):
    swept = Swept(Checkout(tmp_path / "home"))
    tune = ("-m", "hydra/sweeper=optuna", "model.params.n_estimators=range(2,6)")
    tune = (*tune, "hydra.sweeper.n_trials=3")
    first = swept.checkout.start(*tune)
    for line in first.stdout:
        if line.startswith("trial 0"):
            await_step(first.pid)  # the next trial's training: it has the other steps from this one
            first.send_signal(signal.SIGINT)
            break
    rest = first.stdout.read()
    assert first.wait(120) == 130, rest
    assert "was interrupted; the same command resumes it" in rest
    parent = swept.sweeps()[-1]
    assert parent.info.status == "KILLED"
    (cut_off,) = (run for run in swept.below(parent) if run.info.status == "KILLED")
    assert cut_off.data.tags["pipeline.trial"] == "1"

    done = swept.checkout.run(*tune)
    assert done.status == 0, done.err
    assert "is resumed: 1 of its trials are finished" in done.out
    assert re.findall(r"^trial (\d+):", done.out, re.MULTILINE) == ["1", "2"]
    parent = swept.sweeps()[-1]
    assert parent.info.status == "FINISHED"
    finished = [run for run in swept.below(parent) if run.info.status == "FINISHED"]
    again = {run.data.tags["pipeline.trial"]: run for run in finished}
    assert (sorted(again), len(finished)) == (["0", "1", "2"], 3)
    assert cut_off.data.params.items() <= again["1"].data.params.items()
    assert len({str(sorted(run.data.params.items())) for run in finished}) == 3


@pytest.mark.parametrize(
    ("end", "number", "force"),
    [(os.killpg, signal.SIGINT, "false"), (os.kill, signal.SIGTERM, "true")],
)
def test_stopped_it_ends_all_workers_and_the_same_command_goes_on(
    tmp_path: Path, end: Callable[[int, int], None], number: int, force: str
):
    """By Ctrl-C, which all processes get; or the one that was started is told to end.

    What is forced is run once: trials that are finished are not run again.
    """
    checkout = Checkout(tmp_path / "home")
    command = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", SMALL)
    command = (*command, "model.params.random_state=1,2,3,4", "main.backend=prefork")
    command = (*command, f"main.force={force}")
    process = checkout.start(*command)
    for line in process.stdout:
        if line.startswith("trial "):
            below = psutil.Process(process.pid).children(recursive=True)
            end(process.pid, number)
            break
    out, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 130, out
    assert "the same command resumes it" in out
    assert not psutil.wait_procs(below, timeout=60)[1]
    sweep = Swept(checkout)
    states = {run.info.run_id: run.info.status for run in sweep.runs()}
    assert set(states.values()) <= {"FINISHED", "KILLED", "FAILED"}
    (parent,) = sweep.sweeps()
    finished = {r.info.run_id for r in sweep.below(parent) if "objective" in r.data.metrics}
    assert 1 <= len(finished) < 4

    done = checkout.run(*command)
    assert done.status == 0, done.err
    assert f"is resumed: {len(finished)} of its trials are finished" in done.out
    (parent,) = sweep.sweeps()
    good = [run for run in sweep.below(parent) if run.info.status == "FINISHED"]
    assert sorted(run.data.tags["pipeline.trial"] for run in good) == list("0123")
    assert finished < {run.info.run_id for run in good}


@pytest.mark.skipif(
    servers.postgres_programs() is None,
    reason="PostgreSQL's server is not installed (Debian: apt-get install postgresql)",
)
def test_a_study_that_two_machines_share(tmp_path: Path):
    tune = ("-m", "hydra/sweeper=optuna", "model.params.n_estimators=range(2,6)")
    tune = (*tune, "hydra.sweeper.study_name=forests", "hydra.sweeper.storage=${oc.env:STORAGE}")
    with servers.postgres() as database:
        one, two = (Checkout(tmp_path / name) for name in ("one", "two"))
        first = one.run(*tune, "hydra.sweeper.n_trials=2", STORAGE=database)
        assert re.findall(r"^trial (\d+):", first.out, re.MULTILINE) == ["0", "1"], first.err
        second = two.run(*tune, "hydra.sweeper.n_trials=3", STORAGE=database)
        assert re.findall(r"^trial (\d+):", second.out, re.MULTILINE) == ["2"], second.err
