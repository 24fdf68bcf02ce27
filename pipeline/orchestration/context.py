"""Sets the context of the steps, and the environment variables that MLflow and trackers read."""

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

    Values of this process's own context are inherited: ``reproduce`` sets the run that this one is
    based on, and a machine of a cluster has the code without its git history.

    Args:
        run_id: the pipeline's run id.
        overrides: the overrides as typed.
        commit: the commit of the working tree; None outside of git.
    """
    inherited = StepContext.from_environment()
    commit = commit or Commit(inherited.commit, inherited.dirty)
    return StepContext(
        run_id=run_id,
        overrides=_relevant(overrides),
        commit=commit.sha,
        dirty=commit.dirty,
        based_on=inherited.based_on,
    )


def export(config: "DictConfig", group: str, tracker: str) -> str | None:
    """Set the environment variables by which steps, MLflow and the tracker find their stores.

    Args:
        config: the run's configuration.
        group: the group of the steps' runs in the tracker.
        tracker: ``wandb`` or ``trackio``.

    Returns:
        A notice about MLflow's store for the user, or None.
    """
    state = Path(config.main.state_dir).absolute()
    store, notice = _mlflow_store(config.main.mlflow_uri, state)
    variables.set_defaults({"MLFLOW_DISABLE_TELEMETRY": "true"})
    variables.set_variables(
        {
            "MLFLOW_RUN_ID": None,  # of the `mlflow run .` that may have started this process
            "MLFLOW_EXPERIMENT_ID": None,
            **dict.fromkeys(agent.RUN_VARIABLES),
            settings.PROJECT: config.main.project_name,
            settings.GROUP: group,
            settings.STATE_DIR: str(state),
            settings.TRACKER: tracker,
            settings.TRACKER_TIMEOUT: str(config.main.tracker_timeout),
            settings.ARTIFACT_ROOT: config.main.artifact_root or None,
            settings.MLFLOW_URI: store,
            "MLFLOW_TRACKING_URI": store,
        }
    )
    if tracker == "trackio" or os.environ.get("TRACKIO_DIR"):
        # absolute, as each step runs in its own folder; and set before workers start, as a worker
        # is found by its environment variables
        variables.set_variables({"TRACKIO_DIR": str(settings.trackio_dir().absolute())})
    return notice


def _mlflow_store(chosen: str | None, state: Path) -> tuple[str | None, str | None]:
    """The address of MLflow's store (None: the default), and a notice for the user.

    `mlflow run .` without MLFLOW_TRACKING_URI sets it to a database in the current folder. As the
    user did not choose that database, it is ignored.
    """
    uri = chosen or os.environ.get("MLFLOW_TRACKING_URI") or None
    path = settings.sqlite_path(uri or "")
    if chosen is None and path and path.is_absolute() and path.name == settings.DATABASE:
        folder = path.parent.resolve()
        if folder in (ROOT, Path.cwd()) and folder != state.resolve():
            reason = f"{uri} is the default of mlflow run, and MLflow's store is {state}"
            store, notice = settings.workspace_store()
            return store, notice or f"{reason}; main.mlflow_uri={uri} names it"
    return (settings.absolute_store(uri), None) if uri else settings.workspace_store()


def _relevant(overrides: Iterable[str]) -> list[str]:
    """The overrides that the results depend on, for the report."""
    irrelevant = ("main.", "provenance.")
    return [word for word in overrides if not word.lstrip("+~").startswith(irrelevant)]
