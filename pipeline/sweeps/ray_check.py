"""Checks the settings of ``hydra/launcher=ray`` before a sweep starts, without importing Ray."""

import os
import socket
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from pipeline.core import settings
from pipeline.core.errors import PipelineError


def check(tracker: str, options: DictConfig) -> None:
    """Check that workers can reach the stores, and that the cluster answers.

    Workers share no folder with this machine, so each would write to a local store of its own.

    Raises:
        PipelineError: A store is local, or the cluster does not answer.
    """
    missing = []
    if settings.sqlite_path(settings.tracking_uri()):
        missing.append("MLFLOW_TRACKING_URI")
    if tracker == "trackio" and not os.environ.get("TRACKIO_SERVER_URL"):
        missing.append("TRACKIO_SERVER_URL")
    if missing:
        raise PipelineError(
            f"workers of hydra/launcher=ray can't reach local stores: set {' and '.join(missing)} "
            "to the address of a server",
            "docs/sweeps.md shows how to start one",
        )
    if OmegaConf.is_missing(options, "address"):
        raise PipelineError(
            "hydra.launcher.address is not set",
            "set it to the cluster's: ray://host:10001, or host:6379 on one of its machines",
        )
    _reach(options.address, options.timeout)


def _reach(address: str, timeout: float) -> None:
    """Check that the cluster answers: Ray itself would wait for minutes or end the process."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or not port:
        raise PipelineError(
            f"hydra.launcher.address={address!r} is not a cluster's address",
            "use an address such as ray://host:10001, or host:6379 on one of its machines",
        )
    try:
        socket.create_connection((parts.hostname, port), timeout).close()
    except OSError as error:
        raise unreachable(address, str(error)) from error


def unreachable(address: str, reason: str) -> PipelineError:
    """The error for a cluster that can't be used."""
    return PipelineError(
        f"no Ray cluster answers at hydra.launcher.address={address}: {reason}",
        "start a cluster (ray start --head), or correct the address",
    )
