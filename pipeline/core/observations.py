"""What can be observed of a file or folder, and the proof that all of it is still the same.

A step records observations while it runs (:mod:`pipeline.steps.trace`); the cache makes the same
observations again (:mod:`pipeline.cache.compare`). A :data:`Proof` holds them by kind:

- ``code``: source that was imported: the digests of its bytes and of its compiled form;
- ``file``: a file that was opened: the digest of its bytes; empty: there is none;
- ``folder``: a folder that was listed: the digest of its names, and of which of them are folders;
- ``search``: a folder in which the import system looked for modules: their names, and which of the
  folder's entries bear one of them;
- ``kind``: a path that was tested: a folder, a file, a file of a size; empty: nothing is there;
- ``link``: a path that was resolved: where it leads; empty: it is no link.

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
FIRST_LINE = "__firstlineno__"  # of a class
STORES_LINE = ("STORE_NAME", FIRST_LINE)
ANY = "*"  # among the names of a search: each module that is there
IGNORED = {".git", ".venv", "__pycache__"}  # as names, wherever they are


def path_of(name: str) -> Path:
    """The path that an observation's name means."""
    return ROOT / name


def name_of(path: str) -> str:
    """A path as an observation's name."""
    root = f"{ROOT}{os.sep}"
    return path.removeprefix(root) if path != str(ROOT) else "."


def own_state() -> tuple[str, ...]:
    """The folders that hold this project's own state, which never counts."""
    return str(settings.state_dir()), str(settings.trackio_dir().absolute())


def file(path: Path) -> str:
    """The digest of a file's bytes; empty where there is no file that can be read."""
    try:
        return file_digest(path)
    except OSError:
        return ""


def names(path: Path) -> list[str] | None:
    """The names in a folder, without those that never count; None where there is no folder.

    That of a folder ends with a slash.
    """
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if entry.name not in IGNORED]
    except OSError:
        return None
    state = own_state()
    return sorted(f"{e.name}{'/' * e.is_dir()}" for e in found if e.path not in state)


def folder(found: Iterable[str] | None) -> str:
    """The digest of the names in a folder; empty where there is none."""
    if found is None:
        return ""
    return hashlib.sha256("\0".join(sorted(found)).encode("utf-8", "surrogateescape")).hexdigest()


def search(path: Path, wanted: Iterable[str]) -> list[str]:
    """The entries of a folder that importing one of the wanted modules would find.

    Of a package that is its ``__init__``; a folder without one can be a part of several.
    """
    modules, suffixes = set(wanted), all_suffixes()
    found = []
    for name in names(path) or ():
        module = name.partition("/")[0].partition(".")[0]
        if module not in modules and ANY not in modules:
            continue
        if name == f"{module}/":
            inits = (f"{name}__init__{suffix}" for suffix in suffixes)
            found.append(next((init for init in inits if Path(path, init).is_file()), name))
        elif name[len(module) :] in suffixes:
            found.append(name)
    return found


def kind(path: Path, sized: bool = True) -> str:
    """What a path is: ``folder``, ``file of 12 bytes`` or just ``file``, or nothing."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return ""
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    return f"file of {status.st_size} bytes" if sized else "file"


def link(path: Path) -> str:
    """Where a link leads; empty for what is none."""
    try:
        return name_of(str(path.readlink()))
    except (OSError, ValueError):
        return ""


def code_digest(code: CodeType) -> str:
    """The digest of compiled code without its positions: comments and blank lines don't count."""
    return hashlib.sha256(repr(_without_positions(code)).encode("utf-8", "replace")).hexdigest()


def _without_positions(value: Any) -> Any:
    """What makes two code objects do the same, in an order that is always the same."""
    if isinstance(value, CodeType):
        given = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount)
        called = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        rest = (value.co_exceptiontable, value.co_flags, value.co_stacksize)
        done = _class_body(value) or (value.co_code, _without_positions(value.co_consts))
        return value.co_name, given, called, rest, done
    if isinstance(value, tuple):
        return tuple(map(_without_positions, value))
    if isinstance(value, frozenset):
        return "frozenset", sorted(map(repr, value))
    return type(value).__name__, value


def _class_body(code: CodeType) -> list[Any]:
    """What a class body does, where it also stores the number of its line (from Python 3.13 on)."""
    if FIRST_LINE not in code.co_names:
        return []
    found = [one for one in dis.get_instructions(code) if one.opname != "EXTENDED_ARG"]
    stored = [n for n, one in enumerate(found) if (one.opname, one.argval) == STORES_LINE]
    for place in stored[:1]:  # what stands before it is the number
        del found[place - 1]
    return [(one.opname, _without_positions(one.argval)) for one in found] if stored else []


def compiled(source: bytes, path: Path) -> CodeType | None:
    """A module's code as the import system compiles it; None where it is no Python."""
    try:
        return compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None


def code(source: bytes, path: Path) -> dict[str, str]:
    """The observation of source that is imported."""
    found = compiled(source, path)
    return {
        "bytes": hashlib.sha256(source).hexdigest(),
        "code": code_digest(found) if found else "",
    }


def observe(what: str, name: str, before: Any) -> Any:
    """An observation as it is now; ``before`` itself where it is the same."""
    path = path_of(name)
    if what == CODE:
        return observe_code(path, before)
    if what == FILE:
        return file(path)
    if what == FOLDER:
        return folder(names(path))
    if what == SEARCH:
        return {**before, "found": search(path, before["names"].split())}
    if what == LINK:
        return link(path)
    return kind(path, sized=before != "file")


def observe_code(path: Path, before: Mapping[str, str]) -> Mapping[str, str]:
    """The observation of source as it is now; ``before`` itself where it does the same."""
    try:
        source = path.read_bytes()
    except OSError:
        return {"bytes": "", "code": ""}
    if hashlib.sha256(source).hexdigest() == before["bytes"]:
        return before
    now = code(source, path)
    return before if now["code"] == before["code"] != "" else now


def changed(proof: Proof) -> list[tuple[str, str]]:
    """The kind and name of each observation that is another one now."""
    return [
        (kind, name)
        for kind in KINDS
        for name, before in proof.get(kind, {}).items()
        if observe(kind, name, before) != before
    ]
