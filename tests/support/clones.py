"""Repositories for tests: git as a user runs it, what a user sees of one, and one of this code."""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.runs import Checkout

CODE = (
    "main.py",
    "config.yaml",
    "conda.yml",
    "MLproject",
    ".gitignore",
    "conf",
    "pipeline",
    "data",
)
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")


def git(folder: Path, *words: str, **env: str) -> str:
    """git as a user runs it, with nobody's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    clean = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", *IDENTITY, *words]
    done = subprocess.run(
        command, cwd=folder, env={**kept, **clean, **env}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def seen(folder: Path) -> dict[str, str]:
    """All of a user's files and of git's, byte for byte, but for objects and the runs' refs.

    Nor does Python's own bytecode count.
    """
    found = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    files = [path for path in found if path.is_file() or path.is_symlink()]
    names = {path: path.relative_to(folder).as_posix() for path in files}
    passed = (".git/objects/", ".git/refs/pipeline/")
    return {
        name: str(path.readlink()) if path.is_symlink() else _digest(path)
        for path, name in names.items()
        if not name.startswith(passed)
    }


def _digest(path: Path) -> str:
    return f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"


@dataclass
class Clone(Checkout):
    """This code in a repository of its own, and a place to run it in."""

    @classmethod
    def make(cls, folder: Path) -> "Clone":
        """A new repository with one commit."""
        top = folder / "repository"
        top.mkdir(parents=True)
        for path in [*(ROOT / name for name in CODE), *ROOT.glob("[0-9]*-*")]:
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, top / path.name, ignore=ignored)
            else:
                shutil.copyfile(path, top / path.name)
        git(top, "init", "-q", "-b", "main")
        git(top, "add", ".")
        git(top, "commit", "-qm", "first")
        return cls(folder / "home", root=top)

    def words(self, *overrides: str) -> list[str | Path]:
        """The program and its overrides; this run's code is kept in git."""
        return super().words("provenance.snapshot=true", *overrides)

    def edit(self, file: str, old: str, new: str) -> None:
        """Change a file of the code."""
        text = (self.root / file).read_text(encoding="utf-8")
        assert text.count(old) == 1, (file, old)
        (self.root / file).write_text(text.replace(old, new), encoding="utf-8")


def refused(place: Clone, *words: str, **env: str) -> str:
    """A command that fails in a few lines, and changes nothing."""
    before, state = seen(place.root), ids(place)
    done = place.tool(*words, **env)
    assert done.status == 1, done.out
    assert "Traceback" not in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) <= 20
    assert seen(place.root) == before
    assert ids(place) == state
    return done.err


def ids(place: Clone) -> list[str]:
    """The runs, the oldest first."""
    return sorted(path.name for path in (place.state / "runs").iterdir())
