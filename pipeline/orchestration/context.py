"""What the steps, MLflow and the tracker are told through the environment."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core import settings
from pipeline.core.settings import ROOT
from pipeline.provenance.origin import Commit

if TYPE_CHECKING:
    from omegaconf import DictConfig


def export(
    config: "DictConfig",
    run_id: str,
    overrides: Iterable[str],
    group: str,
    tracker: str,
    commit: Commit | None,
) -> None:
    """Tell the steps, through the environment, where they belong.

    Args:
        overrides: the words that were typed.
        group: what the steps' runs are grouped by in the tracker.
    """
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        os.environ.pop(name, None)  # of the `mlflow run .` that may have started us
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    state = Path(config.main.state_dir).absolute()
    _drop_default_store(state)
    for name in settings.CODE:
        os.environ.pop(name, None)  # of the trial before this one
    if os.environ.get("TRACKIO_DIR"):  # each step runs in a folder of its own
        os.environ["TRACKIO_DIR"] = str(settings.trackio_dir().absolute())
    os.environ.pop(settings.ARTIFACT_ROOT, None)
    if config.main.artifact_root:
        os.environ[settings.ARTIFACT_ROOT] = config.main.artifact_root
    os.environ.update(
        {
            "WANDB_PROJECT": config.main.project_name,
            "WANDB_RUN_GROUP": group,
            settings.STATE_DIR: str(state),
            settings.TRACKER: tracker,
            settings.TRACKER_TIMEOUT: str(config.main.tracker_timeout),
            settings.RUN_ID: run_id,
            # a machine of a cluster has the code without its history
            settings.GIT_COMMIT: commit.sha if commit else os.environ.get(settings.GIT_COMMIT, ""),
            settings.GIT_DIRTY: str(bool(commit and commit.dirty)).lower(),
            settings.OVERRIDES: _decisive(overrides),
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


def _decisive(overrides: Iterable[str]) -> str:
    """The overrides that the result depends on, as JSON, for the report to print."""
    aside = ("main.", "provenance.")
    return json.dumps([word for word in overrides if not word.lstrip("+~").startswith(aside)])
