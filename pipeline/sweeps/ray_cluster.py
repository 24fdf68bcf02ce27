"""Runs trials on an existing Ray cluster.

Hydra's own Ray launcher requires cloudpickle 2, but MLflow and Ray require 3. It also lets two
machines run a shared step at the same time, and does not retry trials whose machine died.

A machine of the cluster needs this project's Python environment and access to the servers: Ray
uploads the code, and results go to TRACKIO_SERVER_URL (or W&B) and MLFLOW_TRACKING_URI. Each
machine has a state folder of its own beside the uploaded code.
"""

import asyncio
import contextlib
import logging
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import ray
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from ray.exceptions import RayError

from pipeline.config import job
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
HEAD = {"node:__internal_head__": 0.001}  # keeps the locks on the node that the cluster needs


class Cluster:
    """A connection to a cluster.

    Args:
        address: ``ray://host:10001`` from anywhere, ``host:6379`` on one of its machines.
        num_cpus: CPUs for each trial.
        retries: how often a trial is retried whose worker died.
        timeout: in seconds, for :func:`pipeline.sweeps.ray_check.check`.
        runtime_env: additional settings of Ray's runtime environment.
    """

    def __init__(
        self,
        address: str,
        num_cpus: float,
        retries: int,
        timeout: float,  # noqa: ARG002 - a setting for the check before the start
        runtime_env: Any,
    ):
        self.address, self.num_cpus, self.retries = address, num_cpus, retries
        extra_env: Any = {}
        if OmegaConf.is_config(runtime_env):
            extra_env = OmegaConf.to_container(runtime_env)
        self.runtime_env = {"working_dir": str(ROOT), "excludes": LEFT_OUT, **extra_env}
        self._connect()

    def _connect(self) -> None:
        for attempt in range(self.retries + 1):
            try:
                ray.init(
                    self.address,
                    runtime_env=self.runtime_env,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
                break
            except ConnectionAbortedError as error:  # the cluster answers, but starts slowly
                if attempt == self.retries:
                    raise PipelineError(
                        f"the Ray cluster at {self.address} answers, but can't run jobs: "
                        f"{_last_line(error)}",
                        "see ray_client_server*.err in the logs of its head node, then try again",
                    ) from error
            except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
                raise unreachable(self.address, _last_line(error)) from error
        options: dict[str, Any] = {"num_cpus": 0, "resources": HEAD, "max_concurrency": 10_000}
        self.locks = ray.remote(**options)(Locks).remote()

    def run(
        self, task: Callable, callbacks: Callbacks, configs: Sequence[DictConfig], first: int
    ) -> Sequence[JobReturn]:
        """Run a trial for each configuration, numbered from ``first``.

        A trial is retried if its worker dies or the connection to the cluster is lost.
        """
        worker_env = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(PREFIXES) and name not in LEFT_HERE
        }
        context = step_context("", (), origin.commit(ROOT))  # the workers have no git history
        worker_env[VARIABLE] = context.to_json()
        trials = [
            (task, callbacks, _numbered(config, first + index), worker_env)
            for index, config in enumerate(configs)
        ]
        results: dict[int, JobReturn] = {}
        for attempt in range(self.retries + 1):
            try:
                self._run(trials, first, callbacks, results)
                break
            except ConnectionError:
                if attempt == self.retries:
                    raise
                message = "the connection to the cluster was lost; unfinished trials are retried"
                say(message, flush=True)
                ray.shutdown()
                self._connect()
        return [results[index] for index in range(len(trials))]

    def _run(
        self,
        trials: Sequence[tuple[Any, ...]],
        first: int,
        callbacks: Callbacks,
        results: dict[int, JobReturn],
    ) -> None:
        """Run the trials that have no result yet."""
        remote = cast(Any, ray.remote(num_cpus=self.num_cpus, max_retries=0)(run_trial))
        tries: dict[int, int] = defaultdict(int)
        waiting = deque(index for index in range(len(trials)) if index not in results)
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < self._slots():
                index = waiting.popleft()
                holder = f"{first + index}/{tries[index]}"
                running[remote.remote(*trials[index], self.locks, holder)] = index
                sweep_among(callbacks).report(kind="begun", trial=first + index)
            (ready, *_), _ = ray.wait(list(running))
            index = running.pop(ready)
            try:
                results[index], events = ray.get(ready)
            except RayError as error:
                ray.get(self.locks.release_all.remote(f"{first + index}/{tries[index]}"))
                tries[index] += 1
                if tries[index] <= self.retries:
                    waiting.append(index)
                    events = [_note(f"trial {first + index}: its worker died, it is retried")]
                else:
                    results[index], events = _lost(trials[index][2], callbacks, error), []
            for event in events:
                sweep_among(callbacks).report(**event)

    def _slots(self) -> int:
        """How many trials the cluster's CPUs can run at once.

        Ray itself would start more trials while others wait for a shared step.
        """
        return max(int(ray.cluster_resources().get("CPU", 1) // self.num_cpus), 1)


class Locks:
    """Named locks that all workers of a sweep share; an actor on the cluster's head node."""

    def __init__(self) -> None:
        self.locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.holders: dict[str, str] = {}
        self.dead: set[str] = set()

    async def acquire(self, name: str, holder: str) -> None:
        """Wait for the lock."""
        await self.locks[name].acquire()
        if holder in self.dead:  # the worker died while it waited
            self.locks[name].release()
            return
        self.holders[name] = holder

    async def release(self, name: str, holder: str) -> None:
        """Release the lock, if ``holder`` has it."""
        if self.holders.get(name) == holder:
            del self.holders[name]
            self.locks[name].release()

    async def release_all(self, holder: str) -> None:
        """Release all locks of a dead worker."""
        self.dead.add(holder)
        for name in [name for name, lock_holder in self.holders.items() if lock_holder == holder]:
            await self.release(name, holder)


def run_trial(
    task: Callable,
    callbacks: Callbacks,
    trial_config: DictConfig,
    environment: dict[str, str],
    locks: Any,
    holder: str,
) -> tuple[JobReturn, list[dict[str, Any]]]:
    """Run a trial on a worker; return its result and its events."""

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
    HydraConfig.instance().set_config(trial_config)
    with locking_with(lock), job.collecting_events() as events:
        result = run_job(
            hydra_context=HydraContext(config_loader=cast(Any, None), callbacks=callbacks),
            task_function=task,
            config=trial_config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            configure_logging=False,
        )
    result.hydra_cfg = result.cfg = None  # unpickling them would need the project's resolvers
    return result, [event for event in events if event["kind"] != "begun"]


def _note(text: str) -> dict[str, Any]:
    return {"kind": "note", "text": text}


def _numbered(trial_config: DictConfig, number: int) -> DictConfig:
    """Adapt a trial's configuration to a machine with a state folder of its own."""
    with open_dict(trial_config):
        trial_config.hydra.job.id, trial_config.hydra.job.num = str(number), number
        sweep = Path(trial_config.hydra.sweep.dir).name
        trial_config.main.state_dir = "${root:.pipeline}"
        # the tracker chosen here: a worker without its key must fail, not use another tracker
        trial_config.main.tracker = os.environ[settings.TRACKER]
        trial_config.provenance.snapshot = False  # the uploaded code has no git history
        trial_config.hydra.sweep.dir = f"${{main.state_dir}}/runs/{sweep}"
    return trial_config


def _lost(trial_config: DictConfig, callbacks: Callbacks, error: Exception) -> JobReturn:
    """The failed result of a trial whose retries are used up."""
    result = JobReturn(raw_overrides(trial_config.hydra.overrides.task), status=JobStatus.FAILED)
    result.return_value = PipelineError(f"its workers died, the last with {type(error).__name__}")
    callbacks.on_job_start(config=trial_config, task_function=cast(Any, None))
    callbacks.on_job_end(config=trial_config, job_return=result)
    return result


def _last_line(error: Exception) -> str:
    """The error's message without the traceback that Ray puts before it."""
    return str(error).strip().rpartition("\n")[2]
