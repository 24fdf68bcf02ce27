"""What the steps, MLflow and the tracker are told: a step's context, and environment variables."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core import settings, variables
from pipeline.core.settings import ROOT
from pipeline.provenance.origin import Commit
from pipeline.steps.context import StepContext
from pipeline.tracking.wandb import agent

if TYPE_CHECKING:
    from omegaconf import DictConfig


def step_context(run_id: str, overrides: Iterable[str], commit: Commit | None) -> StepContext:
    """The context of a run's steps.

    What this process was told itself counts where it knows no better: ``reproduce`` tells the run
    that this one is based on, and a machine of a cluster has the code without its history.

    Args:
        run_id: the pipeline's run.
        overrides: the words that were typed.
        commit: the commit of the working tree, if it is in git.
    """
    given = StepContext.from_environment()
    commit = commit or Commit(given.commit, given.dirty)
    return StepContext(
        run_id=run_id,
        overrides=_decisive(overrides),
        commit=commit.sha,
        dirty=commit.dirty,
        based_on=given.based_on,
    )


def export(config: "DictConfig", group: str, tracker: str) -> str | None:
    """Set the variables by which steps, MLflow and the tracker find their stores.

    Args:
        config: the run's configuration.
        group: what the steps' runs are grouped by in the tracker.
        tracker: ``wandb`` or ``trackio``.

    Returns:
        What the user should know of MLflow's store, if anything.
    """
    state = Path(config.main.state_dir).absolute()
    store, notice = _mlflow_store(config.main.mlflow_uri, state)
    variables.set_defaults({"MLFLOW_DISABLE_TELEMETRY": "true"})
    variables.set_variables(
        {
            "MLFLOW_RUN_ID": None,  # of the `mlflow run .` that may have started this process
            "MLFLOW_EXPERIMENT_ID": None,
            **dict.fromkeys(agent.ONE_RUN),
            "WANDB_PROJECT": config.main.project_name,
            "WANDB_RUN_GROUP": group,
            settings.STATE_DIR: str(state),
            settings.TRACKER: tracker,
            settings.TRACKER_TIMEOUT: str(config.main.tracker_timeout),
            settings.ARTIFACT_ROOT: config.main.artifact_root or None,
            settings.MLFLOW_URI: store,
            "MLFLOW_TRACKING_URI": store,
        }
    )
    if tracker == "trackio" or os.environ.get("TRACKIO_DIR"):
        # whole, as each step runs in a folder of its own; and before a worker is started, which is
        # for the variables as they are then
        variables.set_variables({"TRACKIO_DIR": str(settings.trackio_dir().absolute())})
    return notice


def _mlflow_store(chosen: str | None, state: Path) -> tuple[str | None, str | None]:
    """The store's whole address, if one is named; and what the user should know of it.

    `mlflow run .` without MLFLOW_TRACKING_URI sets it to a database in the current folder. All
    state lives in one place, so that address is not taken for a wish.
    """
    named = chosen or os.environ.get("MLFLOW_TRACKING_URI") or None
    path = settings.sqlite_path(named or "")
    if chosen is None and path and path.is_absolute() and path.name == settings.DATABASE:
        folder = path.parent.resolve()
        if folder in (ROOT, Path.cwd()) and folder != state.resolve():
            told = f"{named} is the default of mlflow run, and MLflow's store is {state}"
            store, notice = settings.workspace_store()
            return store, notice or f"{told}; main.mlflow_uri={named} names it"
    return (settings.absolute_store(named), None) if named else settings.workspace_store()


def _decisive(overrides: Iterable[str]) -> list[str]:
    """The overrides that the result depends on, for the report to print."""
    aside = ("main.", "provenance.")
    return [word for word in overrides if not word.lstrip("+~").startswith(aside)]
