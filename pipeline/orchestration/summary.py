"""Writes a run's configuration and ``summary.json`` to its folder."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from pipeline.core import settings
from pipeline.core.files import read_record, write_whole
from pipeline.core.results import SUMMARY


def keep_config(folder: Path, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Write the configuration beside the run's logs, in place of Hydra's own record."""
    place = folder / "config"
    place.mkdir(parents=True, exist_ok=True)
    write_whole(place / "config.yaml", as_yaml(config))
    write_whole(place / "overrides.yaml", as_yaml(overrides))


def write(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``summary.json``, and return its content with the run's number."""
    numbered = {"number": next_number(), **content}
    write_whole(folder / SUMMARY, json.dumps(numbered, indent=2))
    return numbered


def note_store() -> None:
    """Note that MLflow's store has a run of this checkout."""
    place = _store_note()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()


def is_new_store() -> bool:
    """Whether the user has chosen a store that has no run of this checkout yet."""
    return bool(os.environ.get(settings.MLFLOW_URI)) and not _store_note().exists()


def _store_note() -> Path:
    name = hashlib.sha256(settings.tracking_uri().encode()).hexdigest()[:16]
    return settings.state_dir() / "stores" / name


def as_yaml(value: Any) -> str:
    """A value as YAML, without sorting keys."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def next_number() -> int:
    """The next run number; numbers give the order in which this state folder's runs end."""
    path = settings.state_dir() / "count"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        try:
            number = 1 + int(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # missing or damaged
            summaries = map(read_record, path.parent.glob(f"runs/**/{SUMMARY}"))
            numbers = [summary.get("number") for summary in summaries if summary]
            number = 1 + max((n for n in numbers if isinstance(n, int)), default=0)
        if not path.is_dir():
            write_whole(path, str(number))
    return number
