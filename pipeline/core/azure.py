"""Azure: failures of its storage, told without its key; and the address of an ML workspace."""

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
WORKSPACE_FILES = ("config.json", ".azureml/config.json")  # as Azure's portal and its SDK name it
WORKSPACE_KEYS = ("subscription_id", "resource_group", "workspace_name")
PLUGIN = "azureml-mlflow"


def connection(address: str) -> str:
    """The connection string, for an address in Azure.

    Raises:
        PipelineError: none is set.
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
    """Keep the secrets out of what Python prints of an error that nobody caught."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        import traceback

        sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))

    if os.environ.get(CONNECTION):
        sys.excepthook = show


@contextlib.contextmanager
def readable_errors(address: str) -> Iterator[None]:
    """Tell failures of the storage behind an address; other addresses are nothing to us.

    Raises:
        PipelineError: in place of the library's error, which may name the connection string.
    """
    if not address.startswith(SCHEMES):
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
        what = redacted(str(error)).strip().partition("\n")[0]
        raise PipelineError(
            f"Azure ({address}) failed: {what or type(error).__name__}",
            f"check {CONNECTION}, the container's name and the network",
        ) from None  # the error itself would be shown with all it knows


def workspace_file(folders: Iterable[Path]) -> Path | None:
    """The first file that names an Azure ML workspace; a ``config.json`` of others is none."""
    for file in (folder / name for folder in folders for name in WORKSPACE_FILES):
        try:
            given = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(given, dict) and all(given.get(key) for key in WORKSPACE_KEYS):
            return file
    return None


def has_plugin() -> bool:
    """Whether MLflow can keep runs in an Azure ML workspace."""
    from importlib import metadata  # slow, and rarely asked

    try:
        metadata.version(PLUGIN)
    except metadata.PackageNotFoundError:
        return False
    return True


def workspace_store(file: Path) -> str:
    """The address by which MLflow's plugin finds a workspace.

    Raises:
        PipelineError: the file does not say in which region it is.
    """
    given = json.loads(file.read_text(encoding="utf-8"))
    if address := given.get("mlflow_tracking_uri"):
        return str(address).replace("/mlflow/v1.0/", "/mlflow/v2.0/")
    subscription, group, workspace = (given[key] for key in WORKSPACE_KEYS)
    if not (region := given.get("location") or given.get("region")):
        show = f"az ml workspace show -g {group} -n {workspace}"
        raise PipelineError(
            f"{file} names the Azure ML workspace {workspace} and not its region",
            f'add "location": "...", which `{show} --query location` prints; or '
            "name another store: main.mlflow_uri, MLFLOW_TRACKING_URI",
        )
    return (
        f"azureml://{region}.api.azureml.ms/mlflow/v2.0/subscriptions/{subscription}"
        f"/resourceGroups/{group}/providers/Microsoft.MachineLearningServices"
        f"/workspaces/{workspace}"
    )
