"""Processes of a run or a sweep are killed: the next run ends as if nothing had been.

The moments of a named point are found by what the run says or leaves; the others are drawn.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil

from pipeline.orchestration import watcher
from tests.support.runs import SMALL, Checkout, is_step

LIMIT = 300  # seconds after which what is awaited does not come, on a busy machine as well
LEAVES = ("**/*.partial", "**/*.partial.*", "running/*")
SINGLE = ("main.steps=[1,2,3,4]", SMALL)
FORMS = {
    "run": SINGLE,
    "local": (*SINGLE, "main.backend=local"),
    "grid": ("-m", "model.params.n_estimators=3,4,5"),
    "joblib": ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
               "model.params.n_estimators=3,4,5"),
    "optuna": ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3",
               "hydra.sweeper.sampler.seed=1", "model.params.n_estimators=range(3,9)"),
}  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSTOP)
VICTIMS = ("orchestrator", "step", "worker", "any")


@dataclass
class Watched(Checkout):
    """A checkout whose programs keep their temporary files in a folder of their own."""

    temporary: Path = Path()

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of programs here."""
        return super().environment(**{"TMPDIR": str(self.temporary), **more})


@dataclass(frozen=True)
class Kill:
    """What is killed, by which signal, and when.

    Attributes:
        form: the run or sweep, one of ``FORMS``.
        victim: which of its processes.
        sent: the signal; what is stopped is let go on later.
        point: tells from the state folder and the processes that it is time.
    """

    form: str
    victim: str
    sent: signal.Signals
    point: str

    def __str__(self) -> str:
        return f"{self.sent.name} to {self.victim} of {self.form} {self.point}"


def at_step(number: int) -> Callable[[Checkout, psutil.Process], bool]:
    """Once a step's log is there."""
    return lambda checkout, _: bool(list(checkout.state.glob(f"runs/**/{number}-*.log")))


POINTS: dict[str, Callable[[Checkout, psutil.Process], bool]] = {
    "when its temporary folder is made": lambda c, _: bool(list(c.state.glob("running/*.json"))),
    "when MLflow's store is being made": lambda c, _: (c.state / "mlflow.db.lock").exists(),
    "when MLflow's store is there": lambda c, _: (c.state / "mlflow.db").exists(),
    "in step 1": at_step(1),
    "in step 2": at_step(2),
    "in step 4": at_step(4),
    "when a step is recorded": lambda c, _: bool(list(c.state.glob("finished/*/*/*.json"))),
    "when Trackio's store is there": lambda c, _: bool(list(c.state.glob("trackio/*.db"))),
}


def kinds(process: psutil.Process) -> list[tuple[str, psutil.Process]]:
    """The processes below one, with what each is."""
    found = [("orchestrator", process)]
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                words = " ".join(child.cmdline())
                if watcher.is_one(child):
                    continue
                kind = "step" if is_step(child) else "worker" if "worker.py" in words else "any"
                found.append((kind, child))
    return found


def strike(checkout: Checkout, kill: Kill, draw: random.Random, wait: float = 0.0) -> bool:
    """Start a run and kill one of its processes; whether there was still one to kill."""
    process = checkout.start(*FORMS[kill.form], *BACKEND)
    tree = psutil.Process(process.pid)
    deadline = time.monotonic() + (wait or LIMIT)
    reached = POINTS.get(kill.point)
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if reached and reached(checkout, tree):
                break
            time.sleep(0.005)  # what another process writes is no event
        there = kinds(tree) if process.poll() is None else []
        wanted = [one for kind, one in there if kill.victim in (kind, "any")] or [
            one for _, one in there
        ]
        if not wanted:
            return False
        target = draw.choice(wanted)
        with contextlib.suppress(psutil.NoSuchProcess):
            target.send_signal(kill.sent)
        if kill.sent is signal.SIGSTOP:
            time.sleep(draw.uniform(0.1, 1))  # it is stopped for a while
            with contextlib.suppress(psutil.NoSuchProcess):
                target.send_signal(signal.SIGCONT)
        return True
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=LIMIT)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise AssertionError(f"{kill}: it has not ended")


BACKEND = ("main.backend=prefork",)


def left(checkout: Watched) -> list[str]:
    """What a killed run has left after the next one has ended: there should be nothing."""
    found = [
        f"process {process.pid} {' '.join(process.cmdline())[:80]}"
        for process in psutil.process_iter()
        if watcher.belongs(process, str(checkout.temporary))
    ]
    found += [f"file {path}" for path in checkout.temporary.iterdir()]
    for pattern in LEAVES:
        found += [f"file {path}" for path in checkout.state.glob(pattern)]
    client = mlflow.MlflowClient(f"sqlite:///{checkout.state / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    return found + [f"run {run.info.run_id} is RUNNING" for run in running]


def digests(checkout: Checkout) -> dict[str, str]:
    """What the four steps come to, by name."""
    done = checkout.run(*SINGLE, *BACKEND)
    assert done.status == 0, done.err
    return {name: output["digest"] for name, output in done.outputs().items()}


def attempt(
    checkout: Watched, kill: Kill, draw: random.Random, expected: dict[str, str], wait: float = 0.0
) -> tuple[bool, list[str]]:
    """Kill, run again, and look; whether it was hit, and what is wrong."""
    hit = strike(checkout, kill, draw, wait)
    wrong = []
    again = checkout.run(*FORMS[kill.form], *BACKEND)
    if again.status != 0 or "Traceback" in again.err:
        wrong.append(f"the next run failed: {again.out[-2000:]}{again.err[-2000:]}")
    if (found := digests(checkout)) != expected:
        wrong.append(f"other results: {found}")
    told = checkout.tool("verify")
    if told.status != 0:
        wrong.append(told.out + told.err)
    return hit, [f"{kill}: {line}" for line in [*wrong, *left(checkout)]]


def drawn(draw: random.Random) -> Kill:
    """Any kill."""
    return Kill(draw.choice([*FORMS]), draw.choice(VICTIMS), draw.choice(SIGNALS), "at some time")


OF_RUNS = (
    Kill("run", "orchestrator", signal.SIGKILL, "when its temporary folder is made"),
    Kill("run", "orchestrator", signal.SIGKILL, "when MLflow's store is being made"),
    Kill("run", "orchestrator", signal.SIGTERM, "when MLflow's store is there"),
    Kill("run", "orchestrator", signal.SIGHUP, "in step 2"),
    Kill("run", "step", signal.SIGKILL, "in step 1"),
    Kill("run", "worker", signal.SIGKILL, "when Trackio's store is there"),
    Kill("local", "step", signal.SIGTERM, "in step 2"),
    Kill("local", "orchestrator", signal.SIGKILL, "when a step is recorded"),
    Kill("run", "step", signal.SIGSTOP, "in step 2"),
)
OF_SWEEPS = (
    Kill("grid", "orchestrator", signal.SIGTERM, "in step 4"),
    Kill("joblib", "orchestrator", signal.SIGKILL, "in step 4"),
    Kill("optuna", "orchestrator", signal.SIGKILL, "in step 4"),
)
NAMED = (*OF_RUNS, *OF_SWEEPS)
