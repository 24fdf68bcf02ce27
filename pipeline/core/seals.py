"""Seals on files of the state folder that are run: bytecode, and where an interpreter is.

A state folder may be a copy of somebody else's. What is run from it has to be this user's own, so
it is kept with a keyed digest, whose key is in the user's cache folder.
"""

import contextlib
import hashlib
import hmac
import os
from functools import cache
from pathlib import Path

from pipeline.core import settings

SIZE = 32  # bytes of a key, and of a seal


def seal(data: bytes) -> bytes:
    """Data with the seal of this user before it."""
    return _digest(data) + data


def unseal(sealed: bytes) -> bytes:
    """The data that this user has sealed.

    Raises:
        ValueError: it was changed, or somebody else has sealed it.
    """
    data = sealed[SIZE:]
    if not hmac.compare_digest(sealed[:SIZE], _digest(data)):
        raise ValueError("it was not written here by this user")
    return data


def _digest(data: bytes) -> bytes:
    try:
        folder = settings.cache_dir()
    except RuntimeError:  # this user has no home
        folder = Path(os.devnull)
    return hashlib.blake2b(data, key=_key(folder), digest_size=SIZE).digest()


@cache
def _key(folder: Path) -> bytes:
    """The user's key, made when it is first needed; this process's own where it can't be kept."""
    file = folder / "key"
    fresh = os.urandom(SIZE)
    try:
        if file.is_file() and file.stat().st_size != SIZE:  # it was cut
            file.unlink()
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial = file.with_name(f"key.{os.getpid()}.{fresh[:4].hex()}.partial")
            with os.fdopen(
                os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb"
            ) as f:
                f.write(fresh)
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(partial, file)
            partial.unlink()
        return file.read_bytes()
    except OSError:
        return fresh
