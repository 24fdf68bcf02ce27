"""Stores for the decorators' data: the tracker, or a folder in Azure Blob Storage."""

import contextlib
import functools
import re
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from pipeline.core import azure
from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest
from pipeline.provenance import origin
from pipeline.tracking import Tracker, TrackerRun

# Retry for some seconds, not minutes, if the server is away
RETRIES: dict[str, Any] = {"initial_backoff": 1, "increment_base": 2, "retry_total": 3}


class Store(contextlib.AbstractContextManager, ABC):
    """A store for the files of one call of a decorated function."""

    @abstractmethod
    def save(self, name: str, path: Path, type: str) -> dict[str, Any]:
        """Store a file; return its location and digest, to be committed as a reference."""

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Close the store."""


def open_store(address: str | None, function: str, id: str) -> Store:
    """The store at an address in Azure; without an address, the tracker."""
    return AzureStore(address, id) if address else TrackerStore(function, id)


class TrackerStore(Store):
    """The tracker, Trackio or W&B: each file is an artifact, with the call's id as an alias.

    Unchanged content makes no new version; the existing version gets the alias.
    """

    def __init__(self, function: str, id: str):
        self._function, self._id = function, id
        self._tracker = Tracker.from_environment()

    @functools.cached_property
    def _run(self) -> TrackerRun:
        """The run, started when the first file is saved."""
        with contextlib.redirect_stdout(sys.stderr):  # keep Trackio's greeting out of stdout
            return self._tracker.open_run(
                job_type=self._function,
                name=f"{self._function}-{self._id}",
                config={"id": self._id, "developer": origin.developer()},
            )

    def save(self, name: str, path: Path, type: str) -> dict[str, Any]:
        """Log the file as an artifact."""
        artifact = self._run.log_artifact(path, name, type, aliases=[self._id])
        return {
            "artifact": artifact.reference,
            "store": self._tracker.store,
            "digest": artifact.digest,
        }

    def __exit__(self, kind: type | None, error: BaseException | None, *_: object) -> None:
        if "_run" in self.__dict__:
            with contextlib.redirect_stdout(sys.stderr):
                self._run.finish(failed=kind is not None, error=error)


class AzureStore(Store):
    """A folder in Azure Blob Storage, ``abfs://container/folder``, with a subfolder per id."""

    def __init__(self, address: str, id: str):
        matched = re.fullmatch(r"abfs://([a-z0-9-]+)(/[^@?#]*)?", address)
        if not matched:
            raise PipelineError(
                f"wrapper_data_store={azure.redacted(address)!r} is not the address of a folder",
                "write it as abfs://container/folder; without it, data goes to the tracker",
            )
        self._root, self._folder = f"abfs://{matched[1]}", f"{(matched[2] or '').strip('/')}/{id}"
        connection = azure.connection(address)
        with azure.readable_errors(address):
            from azure.storage.blob import ContainerClient

            self._container = ContainerClient.from_connection_string(
                connection, matched[1], **RETRIES
            )
            if not self._container.exists():
                raise PipelineError(
                    f"the storage account has no container {matched[1]!r}",
                    "make it, or name another in wrapper_data_store",
                )

    def save(
        self,
        name: str,
        path: Path,
        type: str,  # noqa: ARG002 - a folder has no types
    ) -> dict[str, Any]:
        """Upload the file."""
        blob = f"{self._folder}/{name}".lstrip("/")
        with azure.readable_errors(self._root), path.open("rb") as file:
            self._container.upload_blob(blob, file)
        return {"address": f"{self._root}/{blob}", "digest": file_digest(path)}

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._container.close()
