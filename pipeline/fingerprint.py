"""What a step's result depends on: its code, its environment, its parameters, its inputs.

Two runs of a step with the same fingerprint would produce the same, so one is enough. Names,
places and groups are left out: an input counts by its content, not by its version.
"""

import ast
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import ROOT
from pipeline.digests import file_digest

Parts = dict[str, dict[str, Any]]
BYTECODE = "__pycache__"


class Reference(str):
    """``name:version`` of an artifact that an earlier step produced, with its digest."""

    digest: str

    def __new__(cls, text: str, digest: str) -> "Reference":
        """A reference to ``text``, whose content has this digest."""
        reference = super().__new__(cls, text)
        reference.digest = digest
        return reference

    @property
    def known(self) -> bool:
        """Whether it names a version; a step that is not run names none."""
        return not self.endswith(":?")


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


def step_files(folder: Path) -> list[Path]:
    """A step's own files, in whatever folder below its own; hidden ones and bytecode are not."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != BYTECODE]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


@cache
def library(script: Path) -> tuple[Path, ...]:
    """The files of the ``pipeline`` package that a step imports, directly or not.

    Args:
        script: the step's; what it keeps in files beside or below it counts as well.
    """
    found: set[Path] = set()
    todo = [path for path in step_files(script.parent) if path.suffix == ".py"]
    while todo:
        for path in _imports(todo.pop()) - found:
            found.add(path)
            todo.append(path)
    return tuple(sorted(found))


@cache
def _imports(file: Path) -> frozenset[Path]:
    names = set()
    for node in _statements(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, file)
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    files = set()
    for name in names:
        if name.partition(".")[0] == "pipeline":
            module = ROOT.joinpath(*name.split("."))
            candidates = (module.with_suffix(".py"), module / "__init__.py")
            files |= {path for path in candidates if path.is_file()}
    return frozenset(files)


def _absolute(node: ast.ImportFrom, file: Path) -> str:
    """The module that ``from ... import`` names; a relative one starts at the file's folder."""
    if not node.level:
        return node.module
    package = file.relative_to(ROOT).parent.parts
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, *filter(None, [node.module])])


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements of a module, however deep; ``ast.walk`` takes thrice as long, for it goes
    through every expression too."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            todo += getattr(node, block, ())


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
