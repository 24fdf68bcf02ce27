"""Where state is kept and what the environment says, for the orchestrator and the steps alike.

Every environment variable this project reads of its own is named here.
"""

import os
from pathlib import Path

from pipeline import ROOT
from pipeline.errors import PipelineError

# Set by the orchestrator for its steps; each has a default, so a step also runs alone.
STATE_DIR = "PIPELINE_STATE_DIR"
TRACKER = "PIPELINE_TRACKER"
REPORT = "PIPELINE_STEP_REPORT"
LIFELINE = "PIPELINE_LIFELINE"
RUN_ID = "PIPELINE_RUN_ID"
GIT_COMMIT = "PIPELINE_GIT_COMMIT"
GIT_DIRTY = "PIPELINE_GIT_DIRTY"
OVERRIDES = "PIPELINE_OVERRIDES"
STANDBY = "PIPELINE_STANDBY"
STANDBY_LISTENER = "PIPELINE_STANDBY_LISTENER"

# For a step that runs on another machine: a file in its project's folder with what it would
# find here in its command line and its environment, and tags of its MLflow run for its report.
DEVELOPER = "PIPELINE_DEVELOPER"
HANDED_OVER = "handed_over.json"
BY_MLFLOW = "mlflow:"
REPORT_TAG = "pipeline.report."

# Set by whoever has a slow or a far tracker: the seconds after which it counts as out of reach.
TRACKER_TIMEOUT = "PIPELINE_TRACKER_TIMEOUT"

# config.yaml's main.project_name and main.experiment_name, for a step that runs alone.
DEFAULT_PROJECT = "pokemon"
DEFAULT_EXPERIMENT = "dev"
DEFAULT_MODEL = "pokemon-legendary"

DATABASE = "mlflow.db"  # MLflow's, in the state folder


def state_dir() -> Path:
    """The folder that holds all local state."""
    return Path(os.environ.get(STATE_DIR) or ROOT / ".pipeline").absolute()


def project() -> str:
    """The tracker's project: ``WANDB_PROJECT``, as anyone who knows W&B expects."""
    return os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT


def experiment() -> str:
    """The group that runs belong to: ``WANDB_RUN_GROUP``."""
    return os.environ.get("WANDB_RUN_GROUP") or DEFAULT_EXPERIMENT


def tracking_uri() -> str:
    """MLflow's store: ``MLFLOW_TRACKING_URI``, or SQLite in the state folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state_dir() / DATABASE}"


def trackio_dir() -> Path:
    """Trackio's store: ``TRACKIO_DIR``, or a folder in the state folder."""
    return Path(os.environ.get("TRACKIO_DIR") or state_dir() / "trackio")


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite store, or None for any other."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def tracker_timeout() -> float:
    """How many seconds a tracker may leave us without an answer.

    Raises:
        PipelineError: the variable does not hold a positive number.
    """
    text = os.environ.get(TRACKER_TIMEOUT) or "60"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise PipelineError(
            f"{TRACKER_TIMEOUT}={text!r} is not a number of seconds", "set it to one, such as 60"
        )
    return seconds
