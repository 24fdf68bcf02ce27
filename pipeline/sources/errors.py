"""What can go wrong with any source."""

from pipeline.core.errors import PipelineError


class Unreachable(PipelineError):
    """Nothing answered at the address."""


class TooLarge(PipelineError):
    """There are more bytes than are accepted."""


def too_large(url: str, max_bytes: int) -> TooLarge:
    """The error for more bytes than are accepted."""
    return TooLarge(
        f"data.file_url={url!r} is larger than data.max_bytes={max_bytes}",
        "raise data.max_bytes if that is the file you want",
    )
