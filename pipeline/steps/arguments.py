"""The argparse parser of a step's script, and the types of its arguments."""

import argparse
import json
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T", list[Any], dict[str, Any])


def json_value(text: str) -> Any:
    """Parse JSON (``[1, 2]``, ``{"a": 1}``, ``0.2``); empty text means None.

    ``@path`` reads the JSON from a file, for values too long for a command line.
    """
    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from error


def json_list(text: str) -> list[Any]:
    """Parse a JSON list; empty text means an empty list."""
    return _json_of(list, text)


def json_dict(text: str) -> dict[str, Any]:
    """Parse a JSON object; empty text means an empty object."""
    return _json_of(dict, text)


def json_or_text(text: str) -> Any:
    """Parse a JSON list or object; other text stays text."""
    return json_value(text) if text.startswith(("[", "{", "@")) else text


def _json_of(kind: type[T], text: str) -> T:
    value = json_value(text)
    if value is not None and not isinstance(value, kind):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON {kind.__name__}")
    return value or kind()


def json_names(text: str) -> list[str] | None:
    """Parse a JSON list of names and lists of names into a flat list; empty text means None."""
    value = json_value(text)
    if value is None or not isinstance(value, list):
        return value
    return [name for item in value for name in (item if isinstance(item, list) else [item])]


def optional(text: str) -> str | None:
    """A text; empty text means None."""
    return text or None


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows defaults in ``--help`` and allows no abbreviations."""
    return argparse.ArgumentParser(
        description=(description or "").strip().splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
