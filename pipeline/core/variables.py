"""Sets environment variables; no other module writes ``os.environ``.

An argument, or ``env=`` for a subprocess, comes first. These functions are for what a library, or a
process that a library starts, reads from this process's environment.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping


def set_variables(values: Mapping[str, str | None]) -> None:
    """Set environment variables; None removes a variable."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def set_defaults(values: Mapping[str, str]) -> None:
    """Set the environment variables that are not set yet."""
    set_variables({name: value for name, value in values.items() if name not in os.environ})


def replace_all(values: Mapping[str, str]) -> None:
    """Set these environment variables and remove all others."""
    os.environ.clear()
    os.environ.update(values)


@contextlib.contextmanager
def temporarily(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables within a block, and restore their earlier values at its end."""
    before = {name: os.environ.get(name) for name in values}
    set_variables(values)
    try:
        yield
    finally:
        set_variables(before)
