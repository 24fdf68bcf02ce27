"""Imports source without bytecode that was not made from it.

Python takes bytecode for current if its file names the source's size and second of change, so a
file that is changed within a second may be run as it was before. Here bytecode is found by the
digest of the source itself, and sealed: nobody else's is run.
"""

import hashlib
import marshal
import os
import sys
from pathlib import Path
from types import CodeType

from pipeline.core import observations, seals, settings

FOLDER = "bytecode"  # in the state folder


def load(path: Path, source: bytes) -> tuple[CodeType, dict[str, str]]:
    """A module's code, and what is observed of it.

    Raises:
        SyntaxError: it is no Python.
    """
    digest = hashlib.sha256(source).hexdigest()
    kept = _kept(path, digest)
    try:
        known, code = marshal.loads(seals.unseal(kept.read_bytes()))
    except (OSError, ValueError, EOFError, TypeError):
        code = compile(source, path, "exec", dont_inherit=True)
        known = observations.code_digest(code)
        _keep(kept, seals.seal(marshal.dumps((known, code))))
    return code, {"bytes": digest, "code": known}


def _kept(path: Path, digest: str) -> Path:
    """Where the bytecode is, by all that decides about it."""
    decisive = f"{sys.implementation.cache_tag}-{sys.flags.optimize} {path} {digest}"
    name = hashlib.sha256(decisive.encode("utf-8", "surrogateescape")).hexdigest()
    return settings.state_dir() / FOLDER / name


def _keep(path: Path, data: bytes) -> None:
    """Keep bytecode for the next process; where that can't be done, the next one compiles too."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
