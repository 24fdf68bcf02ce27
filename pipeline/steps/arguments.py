"""The argparse parser of a step's script, and the types of its arguments."""

import argparse
import json
from pathlib import Path
from typing import Any


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
