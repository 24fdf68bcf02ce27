"""The versions that the lock files pin."""

import re

from pipeline.core.settings import ROOT


def locked(lock: str = "requirements.lock") -> dict[str, str]:
    """Every package of a lock file, with its version."""
    text = (ROOT / lock).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))
