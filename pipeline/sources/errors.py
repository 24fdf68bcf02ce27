"""Errors that every kind of source can raise."""

from pipeline.core.errors import PipelineError


class Unreachable(PipelineError):
    """Nothing answered at the address."""


class NotInstalled(PipelineError):
    """The package for an address is not installed in this environment."""


class TooLarge(PipelineError):
    """The data is larger than data.max_bytes."""


def too_large(url: str, max_bytes: int) -> TooLarge:
    """The error for data larger than ``max_bytes``."""
    return TooLarge(
        f"data.file_url={url!r} is larger than data.max_bytes={max_bytes}",
        "raise data.max_bytes if this is the right file",
    )
