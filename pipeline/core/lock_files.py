"""The versions that the lock files pin."""

import re

from pipeline.core.settings import ROOT


def locked(lock: str = "requirements.lock") -> dict[str, str]:
    """The versions in a lock file, by package."""
    text = (ROOT / lock).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))
