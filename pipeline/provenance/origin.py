"""Who runs this, from which code, and with which packages."""

import contextlib
import getpass
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.core import secrets
from pipeline.core.files import file_digest
from pipeline.core.settings import ROOT
from pipeline.core.text import printable
from pipeline.provenance.git import GitError, git

NO_PATH = ("#", "import ", "import\t")  # lines of a .pth file that name no folder


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
    """Git's user name, else the login name."""
    name = _asked(Path(), "config", "user.name")
    if name:
        return printable(name)
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


def repository(root: Path) -> str:
    """The address of the repository that the working tree is from, without a password; or none."""
    return secrets.without_login(_asked(root, "remote", "get-url", "origin"))


def environment_lock() -> list[str]:
    """This process's environment: a line on the interpreter, then each package, exactly.

    The form is that of a requirements file, so that uv or pip can build it again.
    """
    folders = [path for path in map(Path, sys.path) if ROOT not in (path, path.parent)]
    return [interpreter(platform.python_version()), *packages(folders)]


def interpreter(version: str) -> str:
    """An environment's line on its interpreter."""
    return f"# Python {version}, {platform.system()} {platform.machine()}"


def packages(folders: Iterable[Path]) -> list[str]:
    """The packages that are installed in these folders, as ``name==version``, sorted.

    The names of their folders say it all; reading each one's metadata takes a hundred times as
    long. A package that was built from local files may change at the same version, so the digest of
    what was installed follows it; one that is installed editable counts by what is read of it.
    """
    found: dict[str, str] = {}
    folders = list(folders)
    for folder in folders:
        for info in _names(folder, (".dist-info", ".egg-info")):
            name, dash, version = info.rpartition(".")[0].partition("-")
            if dash:  # what comes first on the path is what is imported
                line = version.partition("-")[0] + _content(f"{folder}/{info}")
                found.setdefault(name.lower().replace("_", "-"), line)
    lines = [f"{name}=={version}" for name, version in sorted(found.items())]
    return [*lines, *_more_paths(folders)]


def _more_paths(folders: Iterable[Path]) -> list[str]:
    """A line on the folders that ``.pth`` files add to Python's path, but for this checkout's."""
    added = []
    for folder in folders:
        for name in sorted(_names(folder, (".pth",))):
            with contextlib.suppress(OSError):
                lines = map(str.strip, Path(folder, name).read_text(errors="replace").splitlines())
                paths = [line for line in lines if line and not line.startswith(NO_PATH)]
                added += [path for path in paths if ROOT not in (Path(path), *Path(path).parents)]
    digest = hashlib.sha256("\n".join(added).encode()).hexdigest()
    return [f"# .pth files=={digest[:16]}"] if added else []


def editable(folders: Iterable[Path]) -> list[str]:
    """The folders of the projects that are installed editable."""
    infos = (f"{folder}/{info}" for folder in folders for info in _names(folder, (".dist-info",)))
    told = map(_direct_url, infos)
    return [
        unquote(urlsplit(one["url"]).path)
        for one in told
        if one.get("dir_info", {}).get("editable")
    ]


def _names(folder: Path, endings: tuple[str, ...]) -> list[str]:
    """The names in a folder that end so.

    A run looks through hundreds of them for each step, and making a Path of each takes longest.
    """
    try:
        return [name for name in os.listdir(folder) if name.endswith(endings)]  # noqa: PTH208
    except OSError:
        return []


def _content(package: str) -> str:
    """What tells a package that was built from local files from another one of its version."""
    told = _direct_url(package)
    if not told or told.get("dir_info", {}).get("editable"):
        return ""
    record = Path(package, "RECORD")
    return f"  # installed files {file_digest(record)[:16]}" if record.is_file() else ""


def _direct_url(package: str) -> dict[str, Any]:
    """Where a package was installed from, if not from an index (PEP 610)."""
    file = f"{package}/direct_url.json"
    if not os.path.exists(file):  # noqa: PTH110
        return {}
    try:
        told: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told
