"""Azure: storage errors without secrets, and the MLflow store of an ML workspace."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from pipeline.core.errors import PipelineError

CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
SCHEMES = ("wasbs:", "abfs:")
HIDDEN = "***"
WORKSPACE_FILES = ("config.json", ".azureml/config.json")  # names that Azure's portal and SDK use
WORKSPACE_KEYS = ("subscription_id", "resource_group", "workspace_name")
PLUGIN = "azureml-mlflow"


def connection(address: str) -> str:
    """The connection string for an address in Azure.

    Raises:
        PipelineError: the environment variable is not set.
    """
    if not os.environ.get(CONNECTION):
        raise PipelineError(
            f"{address} is in Azure, and {CONNECTION} is not set",
            "set it to the connection string of the storage account",
        )
    return os.environ[CONNECTION]


def redacted(text: str) -> str:
    """A text without the connection string, its key and its signature."""
    connection = os.environ.get(CONNECTION, "")
    secrets = [connection]
    for part in connection.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() in ("accountkey", "sharedaccesssignature"):
            secrets += [value, *re.findall(r"sig=([^&]+)", value)]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return re.sub(r"(?i)(\bsig=|AccountKey=)[^&;\s'\"]+", rf"\1{HIDDEN}", text)


def guard_tracebacks() -> None:
    """Remove Azure's secrets from the tracebacks that Python prints of uncaught errors."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        import traceback

        sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))

    if os.environ.get(CONNECTION):
        sys.excepthook = show


@contextlib.contextmanager
def readable_errors(address: str | None) -> Iterator[None]:
    """Convert errors of Azure's storage; other addresses are left alone.

    Raises:
        PipelineError: replaces the library's error, which may contain the connection string.
    """
    if address is None or not address.startswith(SCHEMES):
        yield
        return
    try:
        from azure.core.exceptions import AzureError
    except ImportError as error:
        raise PipelineError(
            f"{address} is in Azure, and its library is not installed",
            "install it: make extras, or pip install '.[azure]'",
        ) from error
    try:
        yield
    except (AzureError, OSError, ValueError) as error:
        message = redacted(str(error)).strip().partition("\n")[0]
        # without the original error, which may show the connection string
        raise PipelineError(
            f"Azure ({address}) failed: {message or type(error).__name__}",
            f"check {CONNECTION}, the container's name and the network",
        ) from None


def workspace_file(folders: Iterable[Path]) -> Path | None:
    """The first file that names an Azure ML workspace; other ``config.json`` files are skipped."""
    for file in (folder / name for folder in folders for name in WORKSPACE_FILES):
        try:
            workspace = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(workspace, dict) and all(workspace.get(key) for key in WORKSPACE_KEYS):
            return file
    return None


def has_plugin() -> bool:
    """Whether MLflow's plugin for Azure ML workspaces is installed."""
    from importlib import metadata  # slow to import and rarely needed

    try:
        metadata.version(PLUGIN)
    except metadata.PackageNotFoundError:
        return False
    return True


def workspace_store(file: Path) -> str:
    """The address of a workspace for MLflow's plugin.

    Raises:
        PipelineError: the file does not name the workspace's region.
    """
    settings = json.loads(file.read_text(encoding="utf-8"))
    if address := settings.get("mlflow_tracking_uri"):
        return str(address).replace("/mlflow/v1.0/", "/mlflow/v2.0/")
    subscription, group, workspace = (settings[key] for key in WORKSPACE_KEYS)
    if not (region := settings.get("location") or settings.get("region")):
        show = f"az ml workspace show -g {group} -n {workspace}"
        raise PipelineError(
            f"{file} names the Azure ML workspace {workspace} but not its region",
            f'add "location": "...", which `{show} --query location` prints; or '
            "name another store: main.mlflow_uri, MLFLOW_TRACKING_URI",
        )
    return (
        f"azureml://{region}.api.azureml.ms/mlflow/v2.0/subscriptions/{subscription}"
        f"/resourceGroups/{group}/providers/Microsoft.MachineLearningServices"
        f"/workspaces/{workspace}"
    )
