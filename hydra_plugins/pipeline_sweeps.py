"""Hydra plugins: ``hydra/sweeper=optuna`` and ``hydra/launcher=ray``, configured in conf/hydra.

Hydra imports this module at every start, so the implementations are imported on first use.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from pipeline.core.errors import PipelineError


class OptunaSweeper(Sweeper):
    """Lets Optuna propose the trials: :mod:`pipeline.sweeps.tuning`."""

    config: DictConfig
    launcher: Launcher

    def __init__(self, **options: Any):
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store the sweep's configuration, and create the launcher."""
        self.config, self.context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until enough have finished."""
        from pipeline.sweeps import tuning

        tuning.tune(self.config, self.context, self.launcher, arguments, self.options)


class RayLauncher(Launcher):
    """Runs trials on an existing Ray cluster: :mod:`pipeline.sweeps.ray_cluster`."""

    def __init__(self, **options: Any):
        self.options = options
        self.cluster: Any = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store the sweep's configuration."""
        self.config, self.context, self.task = config, hydra_context, task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run trials in parallel, and wait for them."""
        from pipeline.sweeps import ray_cluster

        try:
            self.cluster = self.cluster or ray_cluster.Cluster(**self.options)
        except PipelineError as error:
            raise SystemExit(1) from error  # Hydra would print other errors in its own format
        load = self.context.config_loader.load_sweep_config
        configs = [load(self.config, list(overrides)) for overrides in job_overrides]
        return self.cluster.run(self.task, self.context.callbacks, configs, initial_job_idx)
