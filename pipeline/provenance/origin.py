"""The origin of a run: its developer, commit, repository and packages."""

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

from pipeline.core.files import file_digest
from pipeline.core.security import secrets
from pipeline.core.settings import ROOT
from pipeline.core.text import printable
from pipeline.provenance.git import GitError, git

NO_PATH = ("#", "import ", "import\t")  # beginnings of lines in a .pth file that name no folder


@dataclass(frozen=True)
class Commit:
    """The commit a working tree is based on, and whether the tree differs from it."""

    sha: str
    dirty: bool


def _git_output(folder: Path, *arguments: str) -> str:
    """The output of a git command; empty if it fails."""
    try:
        return git(folder, *arguments)
    except GitError:
        return ""


def developer() -> str:
    """Git's user name, else the login name."""
    name = _git_output(Path(), "config", "user.name")
    if name:
        return printable(name)
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def changed_since(sha: str, root: Path, *paths: str) -> bool:
    """Whether files have changed since a commit; False if the commit is unknown."""
    commit_id = _git_output(root, "rev-parse", "--verify", "--quiet", f"{sha}^{{commit}}")
    return bool(commit_id and _git_output(root, "diff", "--name-only", commit_id, "--", *paths))


def commit(root: Path) -> Commit | None:
    """The commit of the working tree at ``root``, or None outside a git repository."""
    sha = _git_output(root, "rev-parse", "--verify", "HEAD")
    if not sha:
        return None
    return Commit(sha, dirty=bool(_git_output(root, "status", "--porcelain")))


def repository(root: Path) -> str:
    """The address of the remote ``origin``, without a password; empty if there is none."""
    return secrets.without_login(_git_output(root, "remote", "get-url", "origin"))


def environment_lock() -> list[str]:
    """The lock of this process's environment: the interpreter, then each package's version.

    The format is that of a requirements file, so that uv or pip can rebuild the environment.
    """
    folders = [path for path in map(Path, sys.path) if ROOT not in (path, path.parent)]
    return [interpreter(platform.python_version()), *packages(folders)]


def interpreter(version: str) -> str:
    """The line of a lock that names the interpreter."""
    return f"# Python {version}, {platform.system()} {platform.machine()}"


def packages(folders: Iterable[Path]) -> list[str]:
    """The packages that are installed in these folders, as ``name==version``, sorted.

    Names and versions come from the folders' names, which is a hundred times faster than reading
    metadata. A package built from local files may change without a new version, so a digest of its
    installed files is added. An editable installation counts by the files that the step reads.
    """
    versions: dict[str, str] = {}
    folders = list(folders)
    for folder in folders:
        for info in _names(folder, (".dist-info", ".egg-info")):
            name, dash, version = info.rpartition(".")[0].partition("-")
            if dash:  # the first one on the path is imported
                line = version.partition("-")[0] + _content_digest(f"{folder}/{info}")
                versions.setdefault(name.lower().replace("_", "-"), line)
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    return [*lines, *_pth_digest(folders)]


def _pth_digest(folders: Iterable[Path]) -> list[str]:
    """A line with the digest of the folders that ``.pth`` files add, without this checkout's."""
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
    """The project folders of editable installations."""
    infos = (f"{folder}/{info}" for folder in folders for info in _names(folder, (".dist-info",)))
    records = map(_direct_url, infos)
    return [
        unquote(urlsplit(record["url"]).path)
        for record in records
        if record.get("dir_info", {}).get("editable")
    ]


def _names(folder: Path, endings: tuple[str, ...]) -> list[str]:
    """The names in a folder that have one of the endings.

    Uses ``os.listdir``, because a run checks hundreds of names and creating Paths is slow.
    """
    try:
        return [name for name in os.listdir(folder) if name.endswith(endings)]  # noqa: PTH208
    except OSError:
        return []


def _content_digest(package: str) -> str:
    """The digest of a package that was built from local files; else empty."""
    source = _direct_url(package)
    if not source or source.get("dir_info", {}).get("editable"):
        return ""
    record = Path(package, "RECORD")
    return f"  # installed files {file_digest(record)[:16]}" if record.is_file() else ""


def _direct_url(package: str) -> dict[str, Any]:
    """The origin of a package that was not installed from an index (PEP 610); else empty."""
    file = f"{package}/direct_url.json"
    if not os.path.exists(file):  # noqa: PTH110
        return {}
    try:
        record: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record
