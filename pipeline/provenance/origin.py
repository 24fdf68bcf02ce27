"""Who runs this, from which code, and with which packages."""

import getpass
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.provenance.git import GitError, git


@dataclass(frozen=True)
class Commit:
    """The commit a working tree is based on, and whether the tree differs from it."""

    sha: str
    dirty: bool


def _asked(folder: Path, *arguments: str) -> str:
    """The output of a git command; nothing where git or what was asked for is not there."""
    try:
        return git(folder, *arguments)
    except GitError:
        return ""


def developer() -> str:
    """git's user name, else the login name."""
    name = _asked(Path(), "config", "user.name")
    if name:
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def changed_since(sha: str, root: Path, *paths: str) -> bool:
    """Whether files differ from what they were at a commit; not, where that can't be told."""
    known = _asked(root, "rev-parse", "--verify", "--quiet", f"{sha}^{{commit}}")
    return bool(known and _asked(root, "diff", "--name-only", known, "--", *paths))


def commit(root: Path) -> Commit | None:
    """The commit of the working tree at ``root``, or None outside a git repository."""
    sha = _asked(root, "rev-parse", "--verify", "HEAD")
    if not sha:
        return None
    return Commit(sha, dirty=bool(_asked(root, "status", "--porcelain")))


def environment_lock() -> list[str]:
    """This process's environment: a line on the interpreter, then each package, exactly.

    The form is that of a requirements file, so that uv or pip can build it again.
    """
    host = f"{platform.system()} {platform.machine()}"
    return [f"# Python {platform.python_version()}, {host}", *packages(map(Path, sys.path))]


def packages(folders: Iterable[Path]) -> list[str]:
    """The packages that are installed in these folders, as ``name==version``, sorted.

    The names of their folders say it all; reading each one's metadata takes a hundred times as
    long.
    """
    found: dict[str, str] = {}
    for folder in folders:
        for path in [*folder.glob("*.dist-info"), *folder.glob("*.egg-info")]:
            name, dash, version = path.stem.partition("-")
            if dash:  # what comes first on the path is what is imported
                found.setdefault(name.lower().replace("_", "-"), version.partition("-")[0])
    return [f"{name}=={version}" for name, version in sorted(found.items())]
