"""Copies requirements.lock's versions into the conda.yml files: ``python -m tools.pins``."""

import re
from pathlib import Path

from pipeline.core.lock_files import locked
from pipeline.core.settings import ROOT

PIN = re.compile(r"^(\s+- )([A-Za-z0-9._-]+)==(\S+)$", re.MULTILINE)


def conda_files() -> list[Path]:
    """The conda.yml files of the root and of the steps."""
    return [ROOT / "conda.yml", *sorted(ROOT.glob("[0-9]*-*/conda.yml"))]


def pinned(text: str, versions: dict[str, str]) -> str:
    """The text of a conda.yml with each pip package at its locked version, if there is one."""
    return PIN.sub(lambda pin: f"{pin[1]}{pin[2]}=={versions.get(pin[2], pin[3])}", text)


def main() -> None:
    """Rewrite the conda.yml files."""
    for path in conda_files():
        path.write_text(pinned(path.read_text(), locked()))


if __name__ == "__main__":
    main()
