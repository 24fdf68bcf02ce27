"""Seals files of the state folder that decide what is run: bytecode and interpreter paths.

A state folder may be copied from another user, and only this user's own files may be run. So they
are stored with a keyed digest, whose key is in the user's cache folder.
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
    """Prefix data with this user's seal."""
    return _digest(data) + data


def unseal(sealed: bytes) -> bytes:
    """The data behind this user's seal.

    Raises:
        ValueError: the data was changed, or sealed by another user.
    """
    data = sealed[SIZE:]
    if not hmac.compare_digest(sealed[:SIZE], _digest(data)):
        raise ValueError("it was not written here by this user")
    return data


def _digest(data: bytes) -> bytes:
    try:
        folder = settings.cache_dir()
    except RuntimeError:  # the user has no home folder
        folder = Path(os.devnull)
    return hashlib.blake2b(data, key=_key(folder), digest_size=SIZE).digest()


@cache
def _key(folder: Path) -> bytes:
    """The user's key, created on first use; a random key if none can be stored."""
    file = folder / "key"
    fresh = os.urandom(SIZE)
    try:
        if file.is_file() and file.stat().st_size != SIZE:  # truncated
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
