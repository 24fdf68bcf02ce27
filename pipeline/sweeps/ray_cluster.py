"""Trials on an existing Ray cluster.

Hydra's launcher for Ray wants cloudpickle 2, and MLflow and Ray here want 3; and it neither keeps
two machines from running a shared step at the same time, nor runs a trial again whose machine died.

What a machine of the cluster needs is this project's Python environment and a way to the servers:
the code travels with the trials, and state goes through TRACKIO_SERVER_URL (or W&B) and
MLFLOW_TRACKING_URI. Each machine keeps a state folder of its own beside the code that it got.
"""

import asyncio
import contextlib
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.config import schema as config
from pipeline.config.job import raw_overrides
from pipeline.core import settings, variables
from pipeline.core.errors import PipelineError
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.orchestration.context import step_context
from pipeline.orchestration.start import locking_with
from pipeline.provenance import origin
from pipeline.steps.context import VARIABLE
from pipeline.sweeps.callback import sweep_among
from pipeline.sweeps.ray_check import unreachable

PREFIXES = ("MLFLOW_", "TRACKIO_", "WANDB_", "PIPELINE_")
LEFT_HERE = ("TRACKIO_DIR", "WANDB_DIR", settings.STATE_DIR, settings.SYSTEM_TMPDIR)
LEFT_OUT = [".git", ".venv", ".pipeline", "tests", "docs", "benchmarks", "**/__pycache__"]
HEAD = {"node:__internal_head__": 0.001}  # where the locks are safe as long as the cluster is


class Cluster:
    """A connection to a cluster.

    Args:
        address: ``ray://host:10001`` from anywhere, ``host:6379`` on one of its machines.
        num_cpus: what a trial takes.
        retries: further tries for a trial whose worker died.
        timeout: what :func:`pipeline.sweeps.ray_check.check` has used.
        runtime_env: more of Ray's runtime environment.
    """

    def __init__(
        self,
        address: str,
        num_cpus: float,
        retries: int,
        timeout: float,  # noqa: ARG002 - a setting that the check before it has used
        runtime_env: Any,
    ):
        self.address, self.num_cpus, self.retries = address, num_cpus, retries
        more = OmegaConf.to_container(runtime_env) if OmegaConf.is_config(runtime_env) else {}
        self.runtime_env = {"working_dir": str(ROOT), "excludes": LEFT_OUT, **more}
        self._connect()

    def _connect(self) -> None:
        for attempt in range(self.retries + 1):
            try:
                ray.init(
                    self.address,
                    runtime_env=self.runtime_env,
                    log_to_driver=False,
                    logging_level="ERROR",
                )
                break
            except ConnectionAbortedError as error:  # it is there, and slow to serve us
                if attempt == self.retries:
                    raise PipelineError(
                        f"the Ray cluster at {self.address} answers, but can't serve: "
                        f"{_last_line(error)}",
                        "look into ray_client_server*.err in its head's logs, then try again",
                    ) from error
            except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
                raise unreachable(self.address, _last_line(error)) from error
        self.locks = ray.remote(num_cpus=0, resources=HEAD, max_concurrency=10_000)(Locks).remote()

    def run(
        self, task: Callable, callbacks: Callbacks, configs: Sequence[DictConfig], first: int
    ) -> Sequence[JobReturn]:
        """Run a trial for each configuration, numbered from ``first``.

        Those whose worker dies are run again, and those under way when the connection is lost.
        """
        sent = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(PREFIXES) and name not in LEFT_HERE
        }
        known = step_context("", (), origin.commit(ROOT))  # the workers have no git history
        sent[VARIABLE] = known.to_json()
        trials = [
            (task, callbacks, _numbered(config, first + index), sent)
            for index, config in enumerate(configs)
        ]
        done: dict[int, JobReturn] = {}
        for attempt in range(self.retries + 1):
            try:
                self._run(trials, first, callbacks, done)
                break
            except ConnectionError:
                if attempt == self.retries:
                    raise
                said = "the connection to the cluster was lost; the trials under way run again"
                say(said, flush=True)
                ray.shutdown()
                self._connect()
        return [done[index] for index in range(len(trials))]

    def _run(
        self,
        trials: Sequence[tuple],
        first: int,
        callbacks: Callbacks,
        done: dict[int, JobReturn],
    ) -> None:
        """Run the trials that are not done."""
        remote = ray.remote(num_cpus=self.num_cpus, max_retries=0)(run_trial)
        tries: dict[int, int] = defaultdict(int)
        todo, running = deque(index for index in range(len(trials)) if index not in done), {}
        while todo or running:
            while todo and len(running) < self._slots():
                index = todo.popleft()
                holder = f"{first + index}/{tries[index]}"
                running[remote.remote(*trials[index], self.locks, holder)] = index
                sweep_among(callbacks).report(kind="begun", trial=first + index)
            (ready, *_), _ = ray.wait(list(running))
            index = running.pop(ready)
            try:
                done[index], said = ray.get(ready)
            except ray.exceptions.RayError as error:
                ray.get(self.locks.release_all.remote(f"{first + index}/{tries[index]}"))
                tries[index] += 1
                if tries[index] <= self.retries:
                    todo.append(index)
                    said = [_note(f"trial {first + index}: its worker died, it is run again")]
                else:
                    done[index], said = _lost(trials[index][2], callbacks, error), []
            for event in said:
                sweep_among(callbacks).report(**event)

    def _slots(self) -> int:
        """How many trials the cluster has room for now.

        Ray itself would begin more while others wait for a shared step.
        """
        return max(int(ray.cluster_resources().get("CPU", 1) // self.num_cpus), 1)


class Locks:
    """Locks by name that all workers of a sweep share; an actor on the cluster's head."""

    def __init__(self) -> None:
        self.locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.holders: dict[str, str] = {}
        self.gone: set[str] = set()

    async def acquire(self, name: str, holder: str) -> None:
        """Wait until nobody else holds the lock."""
        await self.locks[name].acquire()
        if holder in self.gone:  # it died while it was waiting
            self.locks[name].release()
            return
        self.holders[name] = holder

    async def release(self, name: str, holder: str) -> None:
        """Let the next one have it."""
        if self.holders.get(name) == holder:
            del self.holders[name]
            self.locks[name].release()

    async def release_all(self, holder: str) -> None:
        """Release what a dead worker held."""
        self.gone.add(holder)
        for name in [name for name, by in self.holders.items() if by == holder]:
            await self.release(name, holder)


def run_trial(
    task: Callable,
    callbacks: Callbacks,
    trial: DictConfig,
    environment: dict[str, str],
    locks: Any,
    holder: str,
) -> tuple[JobReturn, list[dict[str, Any]]]:
    """Run a trial on a worker; what it returned, and what has happened to it."""

    @contextlib.contextmanager
    def lock(path: Path) -> Iterator[None]:
        name = f"{path.parent.name}/{path.name}"
        ray.get(locks.acquire.remote(name, holder))
        try:
            yield
        finally:
            ray.get(locks.release.remote(name, holder))

    variables.set_variables(environment)
    setup_globals()
    config.register()
    HydraConfig.instance().set_config(trial)
    said: list[dict[str, Any]] = []
    sweep_among(callbacks).report = lambda **event: said.append(event)
    with locking_with(lock):
        returned = run_job(
            hydra_context=HydraContext(config_loader=None, callbacks=callbacks),
            task_function=task,
            config=trial,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            configure_logging=False,
        )
    returned.hydra_cfg = returned.cfg = None  # they would need our resolvers to be read
    return returned, [event for event in said if event["kind"] != "begun"]


def _note(text: str) -> dict[str, Any]:
    return {"kind": "note", "text": text}


def _numbered(trial: DictConfig, number: int) -> DictConfig:
    """A trial's configuration for a machine that has a state folder of its own."""
    with open_dict(trial):
        trial.hydra.job.id = trial.hydra.job.num = number
        sweep = Path(trial.hydra.sweep.dir).name
        trial.main.state_dir = "${root:.pipeline}"
        # the one chosen here: a worker without its key has to say so, not to record elsewhere
        trial.main.tracker = os.environ[settings.TRACKER]
        trial.provenance.snapshot = False  # the code is there without its history
        trial.hydra.sweep.dir = f"${{main.state_dir}}/runs/{sweep}"
    return trial


def _lost(trial: DictConfig, callbacks: Callbacks, error: Exception) -> JobReturn:
    """What a trial comes to whose workers died time and again."""
    lost = JobReturn(raw_overrides(trial.hydra.overrides.task), status=JobStatus.FAILED)
    lost.return_value = PipelineError(f"its workers died, the last one of {type(error).__name__}")
    callbacks.on_job_start(config=trial, task_function=None)
    callbacks.on_job_end(config=trial, job_return=lost)
    return lost


def _last_line(error: Exception) -> str:
    """What an error says, where Ray put a whole traceback into it."""
    return str(error).strip().rpartition("\n")[2]
