"""Processes of a run or a sweep are killed: the next run ends as if nothing had been.

The moments of a named point are found by what the run says or leaves; the others are drawn.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil

from pipeline.orchestration.execution import watcher
from tests.support import ray_nodes, servers
from tests.support.runs import SMALL, Checkout, is_step

LIMIT = 300  # seconds after which what is awaited does not come, on a busy machine as well
GRACE = 5  # seconds that what a run has started may outlive it
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
    "ray": ("-m", "hydra/launcher=ray", "model.params.n_estimators=3,4"),
}  # fmt: skip
WEIGHTS = {"ray": 1}  # a sweep on Ray takes longest; the others are drawn more often
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSTOP)
VICTIMS = ("orchestrator", "step", "worker", "watcher", "any")


@dataclass
class Watched(Checkout):
    """A checkout whose programs keep their temporary files in a folder of their own."""

    shares_workers: bool = False
    temporary: Path = Path()

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of programs here."""
        return super().environment(**{"TMPDIR": str(self.temporary), **more})

    @property
    def store(self) -> str:
        """MLflow's store."""
        return f"sqlite:///{self.state / 'mlflow.db'}"

    def states(self) -> list[Path]:
        """The state folders of its runs."""
        return [self.state]

    def temporaries(self) -> list[Path]:
        """The temporary files of its runs."""
        return [*self.temporary.iterdir()]

    def trials(self) -> list[psutil.Process]:
        """The processes of its trials that are not below the sweep's."""
        return []

    def processes(self) -> list[psutil.Process]:
        """What its runs have started, but for trials elsewhere."""
        folders = [str(self.temporary), *map(str, self.temporaries())]
        running = psutil.process_iter()
        return [one for one in running if any(watcher.belongs(one, name) for name in folders)]


@dataclass(frozen=True)
class Machine:
    """A machine that is a Ray cluster, and the servers that it and its users reach.

    Attributes:
        folder: its temporary files.
        pid: the process that holds the cluster.
        addresses: the cluster's; from anywhere, and on the machine itself.
        variables: name the servers.
    """

    folder: Path
    pid: int
    addresses: tuple[str, str]
    variables: Mapping[str, str]


@contextlib.contextmanager
def machine(home: Path, folder: Path) -> Iterator[Machine]:
    """A Ray cluster until the end of the block; its folder's path has to be short."""
    port, client = servers.free_port(), servers.free_port()
    options = ("--head", "--port", str(port), "--ray-client-server-port", str(client))
    home.mkdir()
    with (
        servers.mlflow_server(home, f"sqlite:///{home / 'server.db'}") as mlflow_url,
        servers.trackio_server(home) as trackio_url,
        ray_nodes.node(folder, *options, "--include-dashboard", "false") as pid,
    ):
        variables = {"MLFLOW_TRACKING_URI": mlflow_url, "TRACKIO_SERVER_URL": trackio_url}
        addresses = (f"ray://127.0.0.1:{client}", f"127.0.0.1:{port}")
        yield Machine(folder, pid, addresses, variables)


@dataclass
class OnRay(Watched):
    """A checkout whose sweeps run on another machine.

    Attributes:
        number: chooses the address.
    """

    machine: Machine | None = None
    number: int = 0

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of programs here."""
        return super().environment(**{**self.machine.variables, **more})

    def words(self, *overrides: str) -> list[str | Path]:
        """The program and its overrides, with a project of its own: the servers are shared."""
        words = super().words(*overrides, f"main.project_name={self.home.name}")
        if FORMS["ray"][1] in overrides:
            addresses = self.machine.addresses
            words.append(f"hydra.launcher.address={addresses[self.number % len(addresses)]}")
        return words

    @property
    def store(self) -> str:
        """MLflow's store."""
        return self.machine.variables["MLFLOW_TRACKING_URI"]

    def states(self) -> list[Path]:
        """The state folders of its runs, here and there."""
        there = self.machine.folder.glob(
            "session_*/runtime_resources/working_dir_files/*/.pipeline"
        )
        return [self.state, *there]

    def temporaries(self) -> list[Path]:
        """The temporary files of its runs, here and there."""
        return [*super().temporaries(), *self.machine.folder.glob("pipeline-*")]

    def trials(self) -> list[psutil.Process]:
        """The processes of its trials; Ray names them so."""
        found = []
        for process in psutil.Process(self.machine.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [process] if process.name().startswith(TRIAL) else []
        return found


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


def in_trial(*wanted: str) -> Callable[[Watched, psutil.Process], bool]:
    """Once a process of a kind is there."""
    return lambda checkout, tree: any(kind in wanted for kind, _ in kinds(checkout, tree))


TRIAL = "ray::run_trial"
POINTS: dict[str, Callable[[Watched, psutil.Process], bool]] = {
    "when its temporary folder is made": lambda c, _: bool(list(c.state.glob("running/*.json"))),
    "when MLflow's store is being made": lambda c, _: (c.state / "mlflow.db.lock").exists(),
    "when MLflow's store is there": lambda c, _: (c.state / "mlflow.db").exists(),
    "in step 1": at_step(1),
    "in step 2": at_step(2),
    "in step 4": at_step(4),
    "when a step is recorded": lambda c, _: bool(list(c.state.glob("finished/*/*/*.json"))),
    "when Trackio's store is there": lambda c, _: bool(list(c.state.glob("trackio/*.db"))),
    "when a trial begins": in_trial("trial"),
    "in a trial's step": in_trial("step"),
}


def kinds(checkout: Watched, process: psutil.Process) -> list[tuple[str, psutil.Process]]:
    """The processes of a run, with what each is."""
    trials = checkout.trials()
    found = [("orchestrator", process), *(("trial", trial) for trial in trials)]
    for root in (process, *trials):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [
                (kind, child) for child in root.children(recursive=True) if (kind := of(child))
            ]
    return found


def of(process: psutil.Process) -> str:
    """What a process below a run's is; nothing if it is gone."""
    try:
        words = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
    if watcher.is_watcher(process):
        return "watcher"
    return "step" if is_step(process) else "worker" if "worker.py" in words else "any"


def strike(checkout: Watched, kill: Kill, draw: random.Random, wait: float = 0.0) -> bool:
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
        there = kinds(checkout, tree) if process.poll() is None else []
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
        psutil.wait_procs(
            checkout.trials(), timeout=LIMIT
        )  # a cluster waits for a client to return


BACKEND = ("main.backend=prefork",)


def left(checkout: Watched) -> list[str]:
    """What a killed run has left after the next one has ended: there should be nothing."""
    found = [f"process {process} is left" for process in checkout.processes()]
    found += [f"file {path}" for path in checkout.temporaries()]
    for pattern in LEAVES:
        found += [f"file {path}" for state in checkout.states() for path in state.glob(pattern)]
    client = mlflow.MlflowClient(checkout.store)
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
    _, outlive = psutil.wait_procs(checkout.processes(), timeout=GRACE)
    wrong = [f"process {process} outlives the run" for process in outlive]
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
    (form,) = draw.choices([*FORMS], [WEIGHTS.get(form, 3) for form in FORMS])
    victims = (*VICTIMS, "trial") if form == "ray" else VICTIMS
    return Kill(form, draw.choice(victims), draw.choice(SIGNALS), "at some time")


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
    Kill("run", "watcher", signal.SIGKILL, "in step 2"),
)
OF_SWEEPS = (
    Kill("grid", "orchestrator", signal.SIGTERM, "in step 4"),
    Kill("joblib", "orchestrator", signal.SIGKILL, "in step 4"),
    Kill("optuna", "orchestrator", signal.SIGKILL, "in step 4"),
)
OF_RAY = (
    Kill("ray", "orchestrator", signal.SIGKILL, "in a trial's step"),
    Kill("ray", "trial", signal.SIGKILL, "in a trial's step"),
)
NAMED = (*OF_RUNS, *OF_SWEEPS, *OF_RAY)
