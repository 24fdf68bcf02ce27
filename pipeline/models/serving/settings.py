"""The settings of the model server."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import MISSING

from pipeline.core.errors import PipelineError
from pipeline.models import sections

LAST_PORT = 65_535


@dataclass
class Serving:
    """``conf/serve``: the server's address, its workers, and the limits of a request."""

    host: str = MISSING
    port: int = MISSING
    workers: int = MISSING
    max_bytes: int = MISSING
    max_rows: int = MISSING
    max_columns: int = MISSING
    max_connections: int = MISSING
    timeout: float = MISSING


def read(overrides: list[str], options: Mapping[str, Any]) -> Serving:
    """Read a file of ``conf/serve``, with overrides and options from the command line.

    Args:
        overrides: such as ``serve.port=80``.
        options: values by field; they take precedence.

    Raises:
        PipelineError: a file, a key or a value is not valid.
    """
    serving = replace(sections.read("serve", Serving, overrides, "the server"), **options)
    for key, value in vars(serving).items():
        if key == "port" and not 0 <= value <= LAST_PORT:
            raise PipelineError(f"serve.port={value} is no port", f"give 0 to {LAST_PORT}")
        if key not in ("host", "port") and value <= 0:
            raise PipelineError(f"serve.{key}={value:g} is too small", "give more than 0")
    return serving
