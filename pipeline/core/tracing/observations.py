"""Observations of files and folders, by which the cache detects a change.

A step records observations while it runs (:mod:`pipeline.steps.tracing.trace`), and the cache
repeats them (:mod:`pipeline.cache.compare`). A :data:`Proof` holds them by kind:

- ``code``: imported source: the digests of its bytes and of its compiled form;
- ``file``: an opened file: the digest of its bytes; empty: it does not exist;
- ``folder``: a listed folder: the digest of its entries' names and types;
- ``search``: a folder in which the import system looked for modules: the modules' names, and the
  folder's matching entries;
- ``kind``: a tested path: a folder, a file, a file of a size; empty: it does not exist;
- ``link``: a resolved path: its target; empty: it is no link.

Paths below the repository are relative to it.
"""

import dis
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from importlib.machinery import all_suffixes
from pathlib import Path
from types import CodeType
from typing import Any

from pipeline.core import settings
from pipeline.core.files import file_digest
from pipeline.core.settings import ROOT

Proof = dict[str, dict[str, Any]]

CODE, FILE, FOLDER, SEARCH, KIND, LINK = KINDS = (
    "code", "file", "folder", "search", "kind", "link",
)  # fmt: skip
FIRST_LINE = "__firstlineno__"  # a class attribute since Python 3.13
STORES_LINE = ("STORE_NAME", FIRST_LINE)
ANY = "*"  # in the names of a search: every module
IGNORED = {".git", ".venv", "__pycache__"}  # folder names that never count


def path_of(name: str) -> Path:
    """The path of an observation's name."""
    return ROOT / name


def name_of(path: str) -> str:
    """The name of a path in observations."""
    root = f"{ROOT}{os.sep}"
    return path.removeprefix(root) if path != str(ROOT) else "."


def own_state() -> tuple[str, ...]:
    """The folders of this project's own state, which never count."""
    return str(settings.state_dir()), str(settings.trackio_dir().absolute())


def file(path: Path) -> str:
    """The digest of a file's bytes; empty if it can't be read."""
    try:
        return file_digest(path)
    except OSError:
        return ""


def names(path: Path) -> list[str] | None:
    """The names of a folder's entries, without ignored ones; None if there is no such folder.

    Names of folders end with a slash.
    """
    try:
        with os.scandir(path) as entries:
            visible = [entry for entry in entries if entry.name not in IGNORED]
    except OSError:
        return None
    state = own_state()
    return sorted(f"{e.name}{'/' * e.is_dir()}" for e in visible if e.path not in state)


def folder(entries: Iterable[str] | None) -> str:
    """The digest of the names in a folder; empty if there is no such folder."""
    if entries is None:
        return ""
    return hashlib.sha256("\0".join(sorted(entries)).encode("utf-8", "surrogateescape")).hexdigest()


def search(path: Path, names_sought: Iterable[str]) -> list[str]:
    """The entries of a folder that an import of the given modules would match.

    A package matches by its ``__init__``, a namespace package by its folder.
    """
    modules, suffixes = set(names_sought), all_suffixes()
    matches = []
    for name in names(path) or ():
        module = name.partition("/")[0].partition(".")[0]
        if module not in modules and ANY not in modules:
            continue
        if name == f"{module}/":
            inits = (f"{name}__init__{suffix}" for suffix in suffixes)
            matches.append(next((init for init in inits if Path(path, init).is_file()), name))
        elif name[len(module) :] in suffixes:
            matches.append(name)
    return matches


def kind(path: Path, sized: bool = True) -> str:
    """The kind of a path: ``folder``, ``file of 12 bytes`` or ``file``; empty if it is missing."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ""
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    return f"file of {status.st_size} bytes" if sized else "file"


def link(path: Path) -> str:
    """The target of a link; empty if the path is no link."""
    try:
        return name_of(str(path.readlink()))
    except (OSError, ValueError):
        return ""


def code_digest(code: CodeType) -> str:
    """The digest of compiled code without line numbers, so that comments don't count."""
    return hashlib.sha256(repr(_without_positions(code)).encode("utf-8", "replace")).hexdigest()


def _without_positions(value: Any) -> Any:
    """The parts of a code object that decide its behaviour, in a stable order."""
    if isinstance(value, CodeType):
        arguments = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount)
        variables = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        flags = (value.co_exceptiontable, value.co_flags, value.co_stacksize)
        instructions = _class_body(value) or (value.co_code, _without_positions(value.co_consts))
        return value.co_name, arguments, variables, flags, instructions
    if isinstance(value, tuple):
        return tuple(map(_without_positions, value))
    if isinstance(value, frozenset):
        return "frozenset", sorted(map(repr, value))
    return type(value).__name__, value


def _class_body(code: CodeType) -> list[Any]:
    """The instructions of a class body without its line number, which Python 3.13 stores."""
    if FIRST_LINE not in code.co_names:
        return []
    instructions = [
        instruction
        for instruction in dis.get_instructions(code)
        if instruction.opname != "EXTENDED_ARG"
    ]
    line_stores = [
        n
        for n, instruction in enumerate(instructions)
        if (instruction.opname, instruction.argval) == STORES_LINE
    ]
    for index in line_stores[:1]:  # the instruction before loads the line number
        del instructions[index - 1]
    return (
        [
            (instruction.opname, _without_positions(instruction.argval))
            for instruction in instructions
        ]
        if line_stores
        else []
    )


def compiled(source: bytes, path: Path) -> CodeType | None:
    """A module's code as the import system compiles it; None for invalid source."""
    try:
        return compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None


def code(source: bytes, path: Path) -> dict[str, str]:
    """The observation of imported source."""
    module_code = compiled(source, path)
    return {
        "bytes": hashlib.sha256(source).hexdigest(),
        "code": code_digest(module_code) if module_code else "",
    }


def observe(observed_kind: str, name: str, before: Any) -> Any:
    """Repeat an observation; returns ``before`` itself if nothing changed."""
    path = path_of(name)
    if observed_kind == CODE:
        return observe_code(path, before)
    if observed_kind == FILE:
        return file(path)
    if observed_kind == FOLDER:
        return folder(names(path))
    if observed_kind == SEARCH:
        return {**before, "found": search(path, before["names"].split())}
    if observed_kind == LINK:
        return link(path)
    return kind(path, sized=before != "file")


def observe_code(path: Path, before: Mapping[str, str]) -> Mapping[str, str]:
    """Repeat the observation of source; returns ``before`` if the compiled code is the same."""
    try:
        source = path.read_bytes()
    except OSError:
        return {"bytes": "", "code": ""}
    if hashlib.sha256(source).hexdigest() == before["bytes"]:
        return before
    now = code(source, path)
    return before if now["code"] == before["code"] != "" else now


def changed(proof: Proof) -> list[tuple[str, str]]:
    """The kind and name of each observation that has changed."""
    return [
        (kind, name)
        for kind in KINDS
        for name, before in proof.get(kind, {}).items()
        if observe(kind, name, before) != before
    ]
