"""Imports source with bytecode that is certain to belong to it.

Python accepts bytecode if the size and time (in seconds) of its source match, so a file that is
changed twice within a second may run in its old version. Here bytecode is found by the digest of
the source, and sealed, so that only this user's own bytecode is run.
"""

import hashlib
import marshal
import os
import sys
from pathlib import Path
from types import CodeType

from pipeline.core import settings
from pipeline.core.security import seals
from pipeline.core.tracing import observations

FOLDER = "bytecode"  # in the state folder


def load(path: Path, source: bytes) -> tuple[CodeType, dict[str, str]]:
    """A module's code, and its observation.

    Raises:
        SyntaxError: the source is invalid.
    """
    digest = hashlib.sha256(source).hexdigest()
    cached = _cache_path(path, digest)
    try:
        code_digest, code = marshal.loads(seals.unseal(cached.read_bytes()))
    except (OSError, ValueError, EOFError, TypeError):
        code = compile(source, path, "exec", dont_inherit=True)
        code_digest = observations.code_digest(code)
        _store(cached, seals.seal(marshal.dumps((code_digest, code))))
    return code, {"bytes": digest, "code": code_digest}


def _cache_path(path: Path, digest: str) -> Path:
    """The path of the bytecode: by Python version, optimisation, source path and digest."""
    key = f"{sys.implementation.cache_tag}-{sys.flags.optimize} {path} {digest}"
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return settings.state_dir() / FOLDER / name


def _store(path: Path, data: bytes) -> None:
    """Store bytecode for later processes; without it they compile the source again."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
