"""What a step's result depends on: its code, its environment, its parameters, its inputs.

Two runs of a step with the same fingerprint would produce the same, so one is enough. Names,
places and groups are left out: an input counts by its content, not by its version.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.core.files import file_digest
from pipeline.core.results import Reference
from pipeline.core.settings import ROOT
from pipeline.steps.folders import library, step_files

Parts = dict[str, dict[str, Any]]


def parts(step: str, parameters: Mapping[str, Any], env_manager: str, store: str) -> Parts:
    """All that a step's result depends on, by kind and name, so that two can be compared.

    Args:
        step: the step's folder.
        parameters: its parameters; a :class:`Reference` counts by its digest.
        env_manager: ``local`` takes the versions installed here, any other those of conda.yml.
        store: the tracker and project that its outputs are in.
    """
    inputs = {k: v.digest for k, v in parameters.items() if isinstance(v, Reference)}
    return {
        "code": code(step),
        "environment": environment(ROOT / step / "conda.yml", env_manager),
        "parameter": {k: v for k, v in parameters.items() if k not in inputs},
        "input": inputs,
        "tracker": {"store": store},
    }


def code(step: str) -> dict[str, str]:
    """A step's own files and those of the library that it imports, by path, with their digests."""
    folder = ROOT / step
    files = [*step_files(folder), *library(folder / "script.py")]
    return {path.relative_to(ROOT).as_posix(): file_digest(path) for path in files}


def fingerprint(found: Parts) -> str:
    """One digest of all :func:`parts`."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def differences(before: Parts, now: Parts) -> list[str]:
    """Each part that differs, with its old and its new value.

    They are compared as the fingerprint takes them: 1 and 1.0 differ, and null and nothing.
    """
    lines = []
    for kind in now:
        old, new = before.get(kind, {}), now[kind]
        for name in sorted(old.keys() | new.keys()):
            texts = [
                json.dumps(side[name], sort_keys=True) if name in side else ""
                for side in (old, new)
            ]
            if texts[0] != texts[1]:
                values = (_shown(kind, side.get(name, "(none)")) for side in (old, new))
                lines.append(f"{kind} {name}: {' -> '.join(values)}")
    return lines


def _shown(kind: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if kind in ("code", "input") and re.fullmatch(r"[0-9a-f]{64}", text):
        return text[:12]
    return text if len(text) <= 80 else f"{text[:77]}..."


def environment(conda_file: Path, env_manager: str) -> dict[str, str]:
    """Python and the packages of a ``conda.yml``, at the versions the step will meet."""
    text = conda_file.read_text(encoding="utf-8")
    pins = dict(re.findall(r"^\s+- ([A-Za-z0-9._-]+)==(\S+)$", text, re.MULTILINE))
    python = re.search(r"^\s+- python=+(\S+)$", text, re.MULTILINE)
    versions = {"python": python[1] if python else ""}
    if env_manager != "local":
        return versions | pins
    here = ".".join(map(str, sys.version_info[:2]))
    return {"python": here} | {name: _installed(name) for name in pins}


@cache
def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"
