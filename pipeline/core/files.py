"""Digests of files and folders, atomic writes, and records in JSON files."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.text import say

SCHEMA_FILE = "schema.json"  # beside a table in its artifact: the types of its columns


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(root: Path) -> str:
    """Digest of a file, or of all files below a folder: their relative paths and bytes.

    A folder that holds one file has that file's digest, so a digest can be compared with what
    ``sha256sum`` prints. The order in which a folder lists its files does not matter.
    """
    if root.is_file():
        return file_digest(root)
    files = [path for path in root.rglob("*") if path.is_file()]
    return combined_digest({path.relative_to(root).as_posix(): file_digest(path) for path in files})


def combined_digest(files: Mapping[str, str]) -> str:
    """One digest for several files, from their digests by relative path."""
    if len(files) == 1:
        return next(iter(files.values()))
    lines = [f"{digest}  {path}\n" for path, digest in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically: readers see the old content or the new content."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read_record(path: Path, *needed: str) -> dict[str, Any] | None:
    """A JSON object from a file of the state folder; None if the file is missing.

    A damaged file counts as absent, with a warning.

    Args:
        path: the file.
        needed: required keys.
    """
    try:
        return parse_record(path.read_text(encoding="utf-8"), *needed)
    except FileNotFoundError:
        return None
    except (OSError, *UNUSABLE) as error:
        message = f"{path} is damaged ({type(error).__name__}: {error}) and counts as absent"
        say(f"warning: {message}", file=sys.stderr)
        return None


UNUSABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)  # damaged JSON


def parse_record(text: str, *needed: str) -> dict[str, Any]:
    """A JSON object from a text.

    Raises:
        ValueError, TypeError, LookupError, RecursionError: the text is no such object.
    """
    record = json.loads(text)
    if not isinstance(record, dict):
        raise TypeError(f"a JSON object is needed, not {type(record).__name__}")
    for name in needed:
        _ = record[name]
    return record


LAST_LINES = 15


def last_lines(log: Path | None, count: int = LAST_LINES) -> list[str]:
    """The last lines of a step's log, with progress bars in their final state."""
    if log is None or not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 16_384, 0))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in lines if line and " INFO mlflow." not in line][-count:]
