"""git's plumbing: a repository read and written to without its user noticing.

Nothing here touches a branch that is checked out, the index, the files, or runs a hook: trees are
made through a temporary index, and commits are objects to which only what we name refers. Only a
command that is run as its user is an exception. git itself is called, because importing GitPython
takes longer than all of this.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import hardening
from pipeline.core.errors import PipelineError

# What git sets for its hooks: from inside one, we would work on the index of a commit under way.
LOCAL = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_LITERAL_PATHSPECS",
)  # fmt: skip
ENGLISH = {"LC_ALL": "C"}
# No index is refreshed in passing, and nobody is asked anything.
QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", **ENGLISH}
OPTIONS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.splitIndex=false",
           "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false")  # fmt: skip
# All others may look at files or an index, and run the filters that a checkout names
NO_FILES = ("cat-file", "check-attr", "check-ignore", "commit-tree", "config", "for-each-ref",
            "remote", "rev-parse", "symbolic-ref", "update-ref", "var")  # fmt: skip
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


class GitError(PipelineError):
    """A git command that failed; the message is git's own.

    Attributes:
        stderr: the standard error of git and its hooks.
    """

    def __init__(self, what: str, remedy: str = "", stderr: str = ""):
        super().__init__(what, remedy)
        self.stderr = stderr


def git(
    folder: Path,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    text: str = "",
    as_user: bool = False,
) -> str:
    """The output of a git command, without the line's end.

    Args:
        folder: where it is run.
        arguments: its words.
        env: further variables.
        text: its standard input.
        as_user: run it as its user would, with their hooks and prompts.

    Raises:
        GitError: it failed, or there is no such folder, or no git.
    """
    if not folder.is_dir():
        raise GitError(f"there is no folder {folder}", "check its name")
    options, quiet = ((), ENGLISH) if as_user else (OPTIONS, QUIET)
    given = hardening.users_git(os.environ) if as_user else os.environ
    kept = {name: value for name, value in given.items() if name not in LOCAL}
    if arguments[0] not in NO_FILES and not as_user:
        kept |= hardening.quiet_git(kept, hardening.no_filters(folder, kept))
    try:
        done = subprocess.run(
            ["git", *options, *map(str, arguments)],
            cwd=folder,
            env={**kept, **quiet, **(env or {})},
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            umask=hardening.users_umask(),  # others may share the repository
        )
    except FileNotFoundError as error:
        raise GitError(
            "git is not installed", "install it (Debian: apt-get install git)"
        ) from error
    if done.returncode:
        silent = f"git {arguments[0]} failed with exit status {done.returncode}"
        raise GitError(_reason(done.stderr) or silent, stderr=done.stderr.strip())
    return done.stdout.removesuffix("\n")


def _reason(said: str) -> str:
    """Git's error in one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    return errors[0].partition(": ")[2] if errors else "".join(lines[:1])


class Repository:
    """A git repository, seen from a folder in its working tree.

    Attributes:
        folder: the folder; what is recorded lies below it, and beside it is as in the index.
        top: the working tree's root.
        prefix: the folder, as seen from there; ``.`` if it is the same one.
        index: the index file of the working tree.
        git_dir: git's folder for the working tree.
        common_dir: git's folder for all working trees of the repository.
    """

    def __init__(self, folder: Path):
        """Find the repository.

        Raises:
            GitError: there is none, or no git.
        """
        self.folder = folder
        asked = ("--show-toplevel", "--show-prefix", "--git-dir", "--git-common-dir")
        found = git(folder, "rev-parse", *asked, "--git-path", "index").split("\n")
        self.top, self.prefix = Path(found[0]), Path(found[1])
        self.git_dir, self.common_dir, self.index = (folder / path for path in found[2:])

    def run(self, *arguments: str | Path, **more: Any) -> str:
        """Run git in the folder; see :func:`git`."""
        return git(self.folder, *arguments, **more)

    def commit(self, name: str) -> str | None:
        """The commit that a name (``HEAD``, a branch, a ref) means, or None."""
        try:
            return self.run(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
            )
        except GitError:
            return None

    def branch(self) -> str | None:
        """The ref of the branch that is checked out, or None if HEAD is detached."""
        try:
            return self.run("symbolic-ref", "--quiet", "HEAD")
        except GitError:
            return None

    def untracked(self, exclude: Iterable[Path] = ()) -> list[Path]:
        """Files that git neither tracks nor ignores; a repository within this one is a folder."""
        told = self.run(
            "ls-files", "--others", "--exclude-standard", "-z", "--", *self._paths(exclude)
        )
        return [self.folder / name for name in told.split("\0") if name]

    def tree(self, exclude: Iterable[Path] = ()) -> str:
        """The folder as it stands, untracked files included and ignored ones not, as a git tree.

        Where the checkout's own configuration names a filter for files, they are kept unfiltered.

        Args:
            exclude: folders to leave out.
        """
        with self._temporary_index() as env:
            if self.index.exists():  # git then reads only the files that changed since; the time
                shutil.copy2(self.index, env["GIT_INDEX_FILE"])  # of the index tells it which
                self._look_at_all(env)
            paths = self._paths(exclude)
            self._add_unfiltered(paths, env)
            self.run("add", "--all", "--", *paths, env=env)
            return self.run("write-tree", env=env)

    def commit_tree(self, tree: str, parents: Iterable[str], message: str, committer: str) -> str:
        """A commit that nothing refers to yet.

        Args:
            tree: what it holds.
            parents: the commits that it follows.
            message: its message.
            committer: whose it is, where no identity is set in git.
        """
        words = [word for parent in parents for word in ("-p", parent)]
        return self.run("commit-tree", tree, *words, text=message, env=self._identity(committer))

    def update_ref(self, ref: str, commit: str, expected: str | None = None) -> None:
        """Let a ref mean a commit.

        Args:
            ref: its full name, such as ``refs/heads/main``.
            commit: the commit.
            expected: what it has to mean until now, or git refuses; 40 zeros: nothing.
        """
        self.run("update-ref", ref, commit, *([expected] if expected else []))

    def export(self, commit: str, into: Path) -> None:
        """Lay a commit's files out in a folder that is not a working tree."""
        with self._temporary_index() as env:
            self.run("read-tree", commit, env=env)
            git(self.top, "checkout-index", "--all", f"--prefix={into.absolute()}/", env=env)

    @contextlib.contextmanager
    def worktree(self, commit: str) -> Iterator[Path]:
        """A commit in a working tree of its own, which goes at the end; the folder in it."""
        with tempfile.TemporaryDirectory(prefix="worktree-") as parent:
            path = Path(parent, "code")
            self.run("worktree", "add", "--quiet", "--detach", path, commit)
            try:
                yield path / self.prefix
            finally:
                self.run("worktree", "remove", "--force", path)

    def _paths(self, exclude: Iterable[Path]) -> list[str]:
        """Pathspecs of the folder without those folders in it."""
        top, left = self.top.resolve(), [path.resolve() for path in exclude]
        within = [
            path.relative_to(top) for path in left if path != top and path.is_relative_to(top)
        ]
        named = [path for path in within if not self._ignored(path)]
        return [".", *(f":(exclude,top,literal){path.as_posix()}" for path in named)]

    def _ignored(self, path: Path) -> bool:
        """Whether git ignores a path: to name one of those is an error, even to leave it out."""
        try:
            git(self.top, "check-ignore", "--quiet", "--", path)
        except GitError:
            return False
        return True

    @contextlib.contextmanager
    def _temporary_index(self) -> Iterator[dict[str, str]]:
        with tempfile.TemporaryDirectory(prefix="index-") as folder:
            yield {"GIT_INDEX_FILE": str(Path(folder, "index"))}

    def _add_unfiltered(self, paths: list[str], env: Mapping[str, str]) -> None:
        """Take files as they stand for which the checkout names filters, none of which is run."""
        options = hardening.no_filters(self.folder, os.environ)
        filters = {key.removeprefix("filter.").rpartition(".")[0] for key, _ in options}
        if not filters:
            return
        listed = self.run("ls-files", "-z", "--", *paths, env=env)
        told = self.run("check-attr", "-z", "--stdin", "filter", text=listed, env=env).split("\0")
        names = [
            name for name, value in zip(told[::3], told[2::3], strict=False) if value in filters
        ]
        there = "\0".join(name for name in names if os.path.lexists(self.folder / name))
        if there:
            self.run("update-index", "--force-remove", "-z", "--stdin", text=there, env=env)
            form = ("--force", "--pathspec-from-file=-", "--pathspec-file-nul")
            self.run("add", *form, text=there, env={**env, "GIT_LITERAL_PATHSPECS": "1"})

    def _look_at_all(self, env: Mapping[str, str]) -> None:
        """Let no file count as unchanged because the user told git to pass over its changes."""
        listed = git(self.top, "ls-files", "-v", "-z", env=env).split("\0")
        hidden = [line[2:] for line in listed if line[:1].islower() or line[:1] == "S"]
        there = [name for name in hidden if os.path.lexists(self.top / name)]
        if there:
            flags = ("--no-assume-unchanged", "--no-skip-worktree")
            for flag in flags:
                words = ("update-index", flag, "-z", "--stdin")
                git(self.top, *words, env=env, text="\0".join(there))

    def _identity(self, name: str) -> dict[str, str]:
        """Who commits: whom git knows, else the one with this name."""
        try:
            self.run("var", "GIT_COMMITTER_IDENT", env={})
            return {}
        except GitError:
            found = {"NAME": name, "EMAIL": "pipeline@localhost"}
            roles = ("AUTHOR", "COMMITTER")
            return {
                f"GIT_{role}_{key}": os.environ.get(f"GIT_{role}_{key}") or value
                for role in roles
                for key, value in found.items()
            }
