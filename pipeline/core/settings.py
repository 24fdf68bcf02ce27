"""Places and environment variables that the orchestrator and the steps share.

The context of one step is in :mod:`pipeline.steps.context`.
"""

import hashlib
import os
import re
from pathlib import Path

from pipeline.core import azure
from pipeline.core.errors import PipelineError

ROOT = Path(__file__).resolve().parents[2]

# Set by the orchestrator for its steps, or by a user; each has a default.
STATE_DIR = "PIPELINE_STATE_DIR"
TRACKER = "PIPELINE_TRACKER"
SYSTEM_TMPDIR = "PIPELINE_SYSTEM_TMPDIR"  # TMPDIR is the run's own folder
UMASK = "PIPELINE_UMASK"  # the user's umask; a run uses a stricter one
WORKERS = "PIPELINE_WORKERS"  # the folder of a sweep's step workers

# W&B's variables for main.project_name and main.experiment_name
PROJECT, GROUP = "WANDB_PROJECT", "WANDB_RUN_GROUP"

# Set by W&B's agent for each run of its sweep.
SWEEP_AGENT = "WANDB_SWEEP_ID"

# MLflow's store, if the user has chosen one: main.mlflow_uri.
MLFLOW_URI = "PIPELINE_MLFLOW_URI"
# Where MLflow keeps the files of new experiments: main.artifact_root.
ARTIFACT_ROOT = "PIPELINE_ARTIFACT_ROOT"

# Seconds to wait for a tracker's answer: main.tracker_timeout.
TRACKER_TIMEOUT = "PIPELINE_TRACKER_TIMEOUT"

# config.yaml's main.project_name and main.experiment_name, for a step that runs alone.
DEFAULT_PROJECT = "pokemon"
DEFAULT_EXPERIMENT = "dev"
DEFAULT_MODEL = "pokemon-legendary"

# The default data set and its target, whose artifacts have fixed names.
DEFAULT_DATASET, DEFAULT_TARGET = "pokemon", "legendary"

# How to check whether an address's content has changed: main.revalidate
REVALIDATE = ETAG, CONTENT, NEVER = ("etag", "content", "never")

DATABASE = "mlflow.db"  # MLflow's, in the state folder


# Text that a path must not contain, and the library that misreads it
REFUSED = {"#": "MLflow", "?": "MLflow", "%": "MLflow", "${": "Hydra"}


def check_path(subject: str, path: Path) -> None:
    """Refuse a path that a library would misread.

    Raises:
        PipelineError: the path contains a text of :data:`REFUSED`.
    """
    for text, library in REFUSED.items():
        if text in str(path):
            raise PipelineError(
                f"{subject} has {text!r} in its path, which {library} can't take: {path}",
                "move it, or rename the folder",
            )


# Valid names of artifacts and models, which become file names
NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]+")


def check_name(kind: str, name: str) -> None:
    """Refuse a name that would be another path as a file name.

    Args:
        kind: the kind of thing, for the message, such as ``an artifact``.
        name: the name.

    Raises:
        PipelineError: the name has other characters, or is ``.`` or ``..``.
    """
    if not NAME.fullmatch(name):
        raise PipelineError(
            f"{name!r} can't name {kind}",
            "use letters, digits, dot, dash, underscore, and not dots alone",
        )


LONGEST_NAME = 100  # W&B allows 128 characters, and suffixes are added


def safe_name(text: str, *reserved: str) -> str:
    """A text as the name of an artifact or a model; different texts give different names.

    Args:
        text: such as ``pokemon-legendary``, which is a valid name already.
        reserved: names that must not result.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:LONGEST_NAME]
    if name == text and name not in reserved and NAME.fullmatch(name):
        return name
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def state_dir() -> Path:
    """The folder that holds all local state."""
    return Path(os.environ.get(STATE_DIR) or ROOT / ".pipeline").absolute()


def cache_dir() -> Path:
    """The pipeline's cache folder of this user.

    Raises:
        RuntimeError: the user has no home folder.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlflow-pipeline"


def project() -> str:
    """The tracker's project: ``WANDB_PROJECT``, as in W&B."""
    return os.environ.get(PROJECT) or DEFAULT_PROJECT


def experiment() -> str:
    """The group that runs belong to: ``WANDB_RUN_GROUP``."""
    return os.environ.get(GROUP) or DEFAULT_EXPERIMENT


def tracking_uri() -> str:
    """MLflow's store: ``MLFLOW_TRACKING_URI``, an Azure ML workspace, or SQLite in state_dir.

    Raises:
        PipelineError: the workspace's file does not name its region.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return absolute_store(uri)
    return workspace_store()[0] or f"sqlite:///{state_dir() / DATABASE}"


def workspace_store() -> tuple[str | None, str | None]:
    """The store of the Azure ML workspace in ``config.json``, and a notice for the user.

    The file is in the current folder or in the repository's root. The store is None without the
    file or without MLflow's plugin.

    Raises:
        PipelineError: the file does not name the workspace's region.
    """
    file = azure.workspace_file([Path.cwd(), ROOT])
    if file is None:
        return None, None
    if not azure.has_plugin():
        reason = f"{file} names an Azure ML workspace, and {azure.PLUGIN} is not installed"
        return None, f"{reason}: MLflow's store is in {state_dir()}"
    return azure.workspace_store(file), f"MLflow's store is the Azure ML workspace of {file}"


def absolute_store(uri: str) -> str:
    """The address of an MLflow store, with an absolute path if it is a local file or folder."""
    if path := sqlite_path(uri):
        return f"sqlite:///{path.absolute()}{''.join(uri.partition('?')[1:])}"
    if re.match(r"file:(?!/)", uri):
        return Path(uri.removeprefix("file:")).absolute().as_uri()
    return str(Path(uri).absolute()) if re.match(r"\.{1,2}(/|$)", uri) else uri


def mlflow_on_server() -> bool:
    """Whether MLflow's store is a server, which other machines can reach."""
    return tracking_uri().startswith(("http:", "https:", "databricks", "azureml:"))


def artifact_root() -> str | None:
    """Where MLflow keeps the files of new experiments; None: the server's default, or state_dir.

    Raises:
        PipelineError: the variable is not the address of a folder.
    """
    text = os.environ.get(ARTIFACT_ROOT) or None
    wasbs = r"wasbs://[^@/?#]+@[^@/?#]+\.blob\.core\.[^@/?#]+(/[^@?#]*)?"
    if text and not re.fullmatch(wasbs if text.startswith("wasbs:") else r"\w+://[^@?#]*", text):
        raise PipelineError(
            "main.artifact_root (or " + ARTIFACT_ROOT + ") is not the address of a folder",
            "write it as wasbs://CONTAINER@ACCOUNT.blob.core.windows.net/FOLDER, without a key",
        )
    return text.rstrip("/") if text else None


def trackio_dir() -> Path:
    """Trackio's store: ``TRACKIO_DIR``, or a folder in the state folder."""
    return Path(os.environ.get("TRACKIO_DIR") or state_dir() / "trackio")


def lock_file(digest: str, state: Path | None = None) -> Path:
    """The path of an environment's lock, by its digest."""
    return (state or state_dir()) / "environments" / f"{digest}.txt"


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite store, or None for another store."""
    path = uri.partition("?")[0].removeprefix("sqlite:///")  # options such as ?timeout=30 follow
    return Path(path) if uri.startswith("sqlite:///") else None


def tracker_timeout() -> float:
    """Seconds to wait for a tracker's answer.

    Raises:
        PipelineError: the variable is not a positive number.
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
