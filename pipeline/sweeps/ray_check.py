"""Checks the settings of ``hydra/launcher=ray`` before a sweep begins, without importing Ray."""

import os
import socket
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from pipeline.core import settings
from pipeline.core.errors import PipelineError


def check(tracker: str, options: DictConfig) -> None:
    """Refuse a sweep that can't work, before it begins.

    Workers share no folder with us, so that local stores would be one for each of them.

    Raises:
        PipelineError: a server is missing, or no cluster answers.
    """
    local = []
    if settings.sqlite_path(settings.tracking_uri()):
        local.append("MLFLOW_TRACKING_URI")
    if tracker == "trackio" and not os.environ.get("TRACKIO_SERVER_URL"):
        local.append("TRACKIO_SERVER_URL")
    if local:
        raise PipelineError(
            f"workers of hydra/launcher=ray reach no local store: {' and '.join(local)} has to "
            "name a server",
            "docs/sweeps.md shows how to start one",
        )
    if OmegaConf.is_missing(options, "address"):
        raise PipelineError(
            "hydra.launcher.address is not set",
            "give the cluster's: ray://host:10001, or host:6379 on one of its machines",
        )
    _reach(options.address, options.timeout)


def _reach(address: str, timeout: float) -> None:
    """Ray itself waits for minutes, or ends the process, where nobody answers."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or not port:
        raise PipelineError(
            f"hydra.launcher.address={address!r} is not a cluster's address",
            "give one such as ray://host:10001, or host:6379 on one of its machines",
        )
    try:
        socket.create_connection((parts.hostname, port), timeout).close()
    except OSError as error:
        raise unreachable(address, str(error)) from error


def unreachable(address: str, why: str) -> PipelineError:
    """The error for a cluster that can't be used."""
    return PipelineError(
        f"no Ray cluster answers at hydra.launcher.address={address}: {why}",
        "start one (ray start --head), or correct the address",
    )
