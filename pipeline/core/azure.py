"""Azure Blob Storage: what goes wrong with it, told without the key that opens it."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from types import TracebackType

from pipeline.core.errors import PipelineError

CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
SCHEMES = ("wasbs:", "abfs:")
HIDDEN = "***"


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
def told(address: str) -> Iterator[None]:
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
