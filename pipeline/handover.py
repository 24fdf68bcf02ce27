"""What the steps, MLflow and the tracker are told through the environment."""

import json
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline import ROOT, settings
from pipeline import config as configuration
from pipeline.provenance import Commit


def export(
    config: DictConfig, run_id: str, group: str, tracker: str, commit: Commit | None
) -> None:
    """Tell the steps, through the environment, where they belong.

    Args:
        group: what the steps' runs are grouped by in the tracker.
    """
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        os.environ.pop(name, None)  # of the `mlflow run .` that may have started us
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    state = configuration.state_path(config)
    _drop_default_store(state)
    for name in settings.CODE:
        os.environ.pop(name, None)  # of the trial before this one
    os.environ.update(
        {
            "WANDB_PROJECT": config.main.project_name,
            "WANDB_RUN_GROUP": group,
            settings.STATE_DIR: str(state),
            settings.TRACKER: tracker,
            settings.ARTIFACT_ROOT: config.main.artifact_root or "",
            settings.TRACKER_TIMEOUT: str(config.main.tracker_timeout),
            settings.RUN_ID: run_id,
            # a machine of a cluster has the code without its history
            settings.GIT_COMMIT: commit.sha if commit else os.environ.get(settings.GIT_COMMIT, ""),
            settings.GIT_DIRTY: str(bool(commit and commit.dirty)).lower(),
            settings.OVERRIDES: _decisive(),
        }
    )


def _drop_default_store(state: Path) -> None:
    """`mlflow run .` without MLFLOW_TRACKING_URI names a database in the current folder.

    All state lives in one place, so that name is not taken for a wish.
    """
    path = settings.sqlite_path(os.environ.get("MLFLOW_TRACKING_URI", ""))
    default = path and path.name == "mlflow.db" and path.parent.resolve() in (ROOT, Path.cwd())
    if default and path.parent.resolve() != state.resolve():
        del os.environ["MLFLOW_TRACKING_URI"]


def _decisive() -> str:
    """The overrides that the result depends on, as JSON, for the report to print."""
    typed = HydraConfig.get().overrides.task
    aside = ("main.", "provenance.")
    return json.dumps([word for word in typed if not word.lstrip("+~").startswith(aside)])
