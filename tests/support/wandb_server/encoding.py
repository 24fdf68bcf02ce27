"""Small conversions between what W&B's client sends and what Python code likes to read."""

import base64
import hashlib
import re
from datetime import UTC, datetime


def python_name(name: str) -> str:
    """``artifactID`` as ``artifact_id``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def global_id(kind: str, number: int) -> str:
    """An id as W&B's look: base64, which the client turns into hex for some references."""
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


def md5_hex(data: bytes) -> str:
    """The name under which stored bytes are kept."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def hex_digest(digest: str) -> str:
    """A manifest's base64 digest as hex."""
    return base64.b64decode(digest).hex()


def now() -> str:
    """The time, as W&B writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
