"""Where state is kept and what the environment says, for the orchestrator and the steps alike.

What a step is told of its run is in :mod:`pipeline.steps.context`.
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
UMASK = "PIPELINE_UMASK"  # the user's own; a run's keeps others out
WORKERS = "PIPELINE_WORKERS"  # the folder of the step workers that a sweep has started

# Set by W&B's agent for each run of its sweep.
SWEEP_AGENT = "WANDB_SWEEP_ID"

# MLflow's store, where the user has named one: main.mlflow_uri.
MLFLOW_URI = "PIPELINE_MLFLOW_URI"
# Where MLflow keeps the files of new experiments: main.artifact_root.
ARTIFACT_ROOT = "PIPELINE_ARTIFACT_ROOT"

# Set by whoever has a slow or a far tracker: the seconds after which it counts as out of reach.
TRACKER_TIMEOUT = "PIPELINE_TRACKER_TIMEOUT"

# config.yaml's main.project_name and main.experiment_name, for a step that runs alone.
DEFAULT_PROJECT = "pokemon"
DEFAULT_EXPERIMENT = "dev"
DEFAULT_MODEL = "pokemon-legendary"

# conf/data/pokemon.yaml's, whose artifacts keep the names they have always had.
DEFAULT_DATASET, DEFAULT_TARGET = "pokemon", "legendary"

# How an address is asked whether its content is the same: main.revalidate
REVALIDATE = ETAG, CONTENT, NEVER = ("etag", "content", "never")

DATABASE = "mlflow.db"  # MLflow's, in the state folder


# What a path can't have, and who can't take it
REFUSED = {"#": "MLflow", "?": "MLflow", "%": "MLflow", "${": "Hydra"}


def check_path(what: str, path: Path) -> None:
    """Refuse a path that a library would take for something else.

    Raises:
        PipelineError: it has one of these characters.
    """
    for text, library in REFUSED.items():
        if text in str(path):
            raise PipelineError(
                f"{what} has {text!r} in its path, which {library} can't take: {path}",
                "move it, or rename the folder",
            )


# What can name an artifact or a model, which become names of files
NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]+")


def check_name(what: str, name: str) -> None:
    """Refuse a name that would mean another place as a path.

    Args:
        what: what is named so, such as ``an artifact``.
        name: the name.

    Raises:
        PipelineError: it has other characters, or is ``.`` or ``..``.
    """
    if not NAME.fullmatch(name):
        raise PipelineError(
            f"{name!r} can't name {what}",
            "use letters, digits, dot, dash, underscore, and not dots alone",
        )


LONGEST_NAME = 100  # W&B takes 128 characters, and some are added


def safe_name(text: str, *taken: str) -> str:
    """A text as the name of an artifact or a model; no two texts become the same one.

    Args:
        text: such as ``pokemon-legendary``, which stays as it is.
        taken: names that mean something else.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:LONGEST_NAME]
    if name == text and name not in taken and NAME.fullmatch(name):
        return name
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def state_dir() -> Path:
    """The folder that holds all local state."""
    return Path(os.environ.get(STATE_DIR) or ROOT / ".pipeline").absolute()


def cache_dir() -> Path:
    """The pipeline's folder among the user's caches.

    Raises:
        RuntimeError: this user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlflow-pipeline"


def project() -> str:
    """The tracker's project: ``WANDB_PROJECT``, as anyone who knows W&B expects."""
    return os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT


def experiment() -> str:
    """The group that runs belong to: ``WANDB_RUN_GROUP``."""
    return os.environ.get("WANDB_RUN_GROUP") or DEFAULT_EXPERIMENT


def tracking_uri() -> str:
    """MLflow's store: ``MLFLOW_TRACKING_URI``, an Azure ML workspace, or SQLite in state_dir.

    Raises:
        PipelineError: the workspace's file does not suffice.
    """
    if named := os.environ.get("MLFLOW_TRACKING_URI"):
        return absolute_store(named)
    return workspace_store()[0] or f"sqlite:///{state_dir() / DATABASE}"


def workspace_store() -> tuple[str | None, str | None]:
    """The store in the Azure ML workspace that ``config.json`` names, and what to say of it.

    The file is in the current folder or at the root. The store is None without such a file, and
    where MLflow's plugin for it is not installed.

    Raises:
        PipelineError: the file does not suffice.
    """
    file = azure.workspace_file([Path.cwd(), ROOT])
    if file is None:
        return None, None
    if not azure.has_plugin():
        told = f"{file} names an Azure ML workspace, and {azure.PLUGIN} is not installed"
        return None, f"{told}: MLflow's store is in {state_dir()}"
    return azure.workspace_store(file), f"MLflow's store is the Azure ML workspace of {file}"


def absolute_store(uri: str) -> str:
    """The address of an MLflow store, with the whole path if it is a file or folder here."""
    if path := sqlite_path(uri):
        return f"sqlite:///{path.absolute()}{''.join(uri.partition('?')[1:])}"
    if re.match(r"file:(?!/)", uri):
        return Path(uri.removeprefix("file:")).absolute().as_uri()
    return str(Path(uri).absolute()) if re.match(r"\.{1,2}(/|$)", uri) else uri


def mlflow_on_server() -> bool:
    """Whether MLflow's store is a server, which others reach too."""
    return tracking_uri().startswith(("http:", "https:", "databricks", "azureml:"))


def artifact_root() -> str | None:
    """Where MLflow keeps the files of new experiments; None: as its server says, or state_dir.

    Raises:
        PipelineError: the variable holds no address.
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
    """Where the lock of an environment that steps ran with is kept."""
    return (state or state_dir()) / "environments" / f"{digest}.txt"


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite store, or None for any other."""
    path = uri.partition("?")[0].removeprefix("sqlite:///")  # options such as ?timeout=30 follow
    return Path(path) if uri.startswith("sqlite:///") else None


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
