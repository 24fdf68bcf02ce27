"""The argparse parser of a step's script, and the types of its arguments."""

import argparse
import json
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T", list[Any], dict[str, Any])


def json_value(text: str) -> Any:
    """An argument that is JSON (``[1, 2]``, ``{"a": 1}``, ``0.2``); empty means None.

    ``@path`` reads it from a file, for values too long for a command line.
    """
    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from error


def json_list(text: str) -> list[Any]:
    """An argument that is a JSON list; empty means an empty one."""
    return _json_of(list, text)


def json_dict(text: str) -> dict[str, Any]:
    """An argument that is a JSON object; empty means an empty one."""
    return _json_of(dict, text)


def json_or_text(text: str) -> Any:
    """A text argument, or a JSON list or object."""
    return json_value(text) if text.startswith(("[", "{", "@")) else text


def _json_of(kind: type[T], text: str) -> T:
    value = json_value(text)
    if value is not None and not isinstance(value, kind):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON {kind.__name__}")
    return value or kind()


def json_names(text: str) -> list[str] | None:
    """An argument that is a JSON list of names, of which some may be lists; empty means None."""
    value = json_value(text)
    if value is None or not isinstance(value, list):
        return value
    return [name for one in value for name in (one if isinstance(one, list) else [one])]


def optional(text: str) -> str | None:
    """A text argument for which an empty string means None."""
    return text or None


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows defaults in ``--help`` and takes no abbreviations."""
    return argparse.ArgumentParser(
        description=(description or "").strip().splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
