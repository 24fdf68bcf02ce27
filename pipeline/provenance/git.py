"""Reads and writes a git repository through plumbing commands, without side effects.

The branch that is checked out, the index and the files stay as they are, and no hook runs: trees
are made through a temporary index, and commits are referred to only by the refs set here. The
exception is a command with ``as_user``. The git program is called because importing GitPython
would take longer than all of these commands.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.core.security import hardening

# Variables that git sets for hooks: in a hook, commands would use the index of the pending commit.
LOCAL = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_LITERAL_PATHSPECS",
)  # fmt: skip
ENGLISH = {"LC_ALL": "C"}
# Neither refresh an index nor prompt the user.
QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", **ENGLISH}
OPTIONS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.splitIndex=false",
           "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false")  # fmt: skip
# Commands that read no files; all others may run the filters that a checkout names
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
    """The output of a git command, without its last newline.

    Args:
        folder: the working folder.
        arguments: the command's arguments.
        env: further environment variables.
        text: the standard input.
        as_user: run git as the user would, with hooks and prompts.

    Raises:
        GitError: the command failed, or the folder or git is missing.
    """
    if not folder.is_dir():
        raise GitError(f"there is no folder {folder}", "check its name")
    options, quiet = ((), ENGLISH) if as_user else (OPTIONS, QUIET)
    environment = hardening.users_git(os.environ) if as_user else os.environ
    variables = {name: value for name, value in environment.items() if name not in LOCAL}
    if arguments[0] not in NO_FILES and not as_user:
        variables |= hardening.quiet_git(variables, hardening.no_filters(folder, variables))
    try:
        process = subprocess.run(
            ["git", *options, *map(str, arguments)],
            cwd=folder,
            env={**variables, **quiet, **(env or {})},
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
    if process.returncode:
        default = f"git {arguments[0]} failed with exit status {process.returncode}"
        raise GitError(_reason(process.stderr) or default, stderr=process.stderr.strip())
    return process.stdout.removesuffix("\n")


def _reason(stderr: str) -> str:
    """Git's error in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    return errors[0].partition(": ")[2] if errors else "".join(lines[:1])


class Repository:
    """A git repository, seen from a folder in its working tree.

    Attributes:
        folder: the folder; a tree has its files, and those of the index for all other folders.
        top: the root of the working tree.
        prefix: the folder's path relative to ``top``.
        index: the index file of the working tree.
        git_dir: git's folder for the working tree.
        common_dir: git's folder for all working trees of the repository.
    """

    def __init__(self, folder: Path):
        """Find the repository.

        Raises:
            GitError: there is no repository, or git is not installed.
        """
        self.folder = folder
        options = ("--show-toplevel", "--show-prefix", "--git-dir", "--git-common-dir")
        paths = git(folder, "rev-parse", *options, "--git-path", "index").split("\n")
        self.top, self.prefix = Path(paths[0]), Path(paths[1])
        self.git_dir, self.common_dir, self.index = (folder / path for path in paths[2:])

    def run(self, *arguments: str | Path, **options: Any) -> str:
        """Run git in the folder; see :func:`git`."""
        return git(self.folder, *arguments, **options)

    def commit(self, name: str) -> str | None:
        """The commit of a name (``HEAD``, a branch, a ref), or None."""
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
        """Files that git neither tracks nor ignores; a nested repository counts as a folder."""
        output = self.run(
            "ls-files", "--others", "--exclude-standard", "-z", "--", *self._paths(exclude)
        )
        return [self.folder / name for name in output.split("\0") if name]

    def tree(self, exclude: Iterable[Path] = ()) -> str:
        """Write the folder as a git tree, with untracked and without ignored files.

        Files with a filter of the checkout's own configuration are stored unfiltered.

        Args:
            exclude: folders to leave out.
        """
        with self._temporary_index() as env:
            if self.index.exists():  # with the index and its time, git reads only changed files
                shutil.copy2(self.index, env["GIT_INDEX_FILE"])
                self._clear_ignore_flags(env)
            paths = self._paths(exclude)
            self._add_unfiltered(paths, env)
            self.run("add", "--all", "--", *paths, env=env)
            return self.run("write-tree", env=env)

    def commit_tree(self, tree: str, parents: Iterable[str], message: str, committer: str) -> str:
        """Make a commit, which no ref names yet.

        Args:
            tree: its tree.
            parents: its parent commits.
            message: its message.
            committer: the committer's name if git has no identity.
        """
        words = [word for parent in parents for word in ("-p", parent)]
        return self.run("commit-tree", tree, *words, text=message, env=self._identity(committer))

    def update_ref(self, ref: str, commit: str, expected: str | None = None) -> None:
        """Set a ref to a commit.

        Args:
            ref: its full name, such as ``refs/heads/main``.
            commit: the commit.
            expected: the ref's present commit, or git refuses; 40 zeros: the ref must be new.
        """
        self.run("update-ref", ref, commit, *([expected] if expected else []))

    def export(self, commit: str, into: Path) -> None:
        """Write a commit's files into a folder that is not a working tree."""
        with self._temporary_index() as env:
            self.run("read-tree", commit, env=env)
            git(self.top, "checkout-index", "--all", f"--prefix={into.absolute()}/", env=env)

    @contextlib.contextmanager
    def worktree(self, commit: str) -> Iterator[Path]:
        """Check a commit out in a temporary working tree; yields this folder in it."""
        with tempfile.TemporaryDirectory(prefix="worktree-") as parent:
            path = Path(parent, "code")
            self.run("worktree", "add", "--quiet", "--detach", path, commit)
            try:
                yield path / self.prefix
            finally:
                self.run("worktree", "remove", "--force", path)

    def _paths(self, exclude: Iterable[Path]) -> list[str]:
        """Pathspecs of the folder without the excluded folders."""
        top, folders = self.top.resolve(), [path.resolve() for path in exclude]
        inside = [
            path.relative_to(top) for path in folders if path != top and path.is_relative_to(top)
        ]
        excluded = [path for path in inside if not self._ignored(path)]
        return [".", *(f":(exclude,top,literal){path.as_posix()}" for path in excluded)]

    def _ignored(self, path: Path) -> bool:
        """Whether git ignores a path; git refuses to name ignored paths, even to exclude them."""
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
        """Add files with a filter of the checkout's configuration, without running the filter."""
        options = hardening.no_filters(self.folder, os.environ)
        filters = {key.removeprefix("filter.").rpartition(".")[0] for key, _ in options}
        if not filters:
            return
        files = self.run("ls-files", "-z", "--", *paths, env=env)
        fields = self.run("check-attr", "-z", "--stdin", "filter", text=files, env=env).split("\0")
        names = [
            name for name, value in zip(fields[::3], fields[2::3], strict=False) if value in filters
        ]
        existing = "\0".join(name for name in names if os.path.lexists(self.folder / name))
        if existing:
            self.run("update-index", "--force-remove", "-z", "--stdin", text=existing, env=env)
            flags = ("--force", "--pathspec-from-file=-", "--pathspec-file-nul")
            self.run("add", *flags, text=existing, env={**env, "GIT_LITERAL_PATHSPECS": "1"})

    def _clear_ignore_flags(self, env: Mapping[str, str]) -> None:
        """Clear the flags by which the user told git to ignore changes of files."""
        listed = git(self.top, "ls-files", "-v", "-z", env=env).split("\0")
        hidden = [line[2:] for line in listed if line[:1].islower() or line[:1] == "S"]
        existing = [name for name in hidden if os.path.lexists(self.top / name)]
        if existing:
            flags = ("--no-assume-unchanged", "--no-skip-worktree")
            for flag in flags:
                words = ("update-index", flag, "-z", "--stdin")
                git(self.top, *words, env=env, text="\0".join(existing))

    def _identity(self, name: str) -> dict[str, str]:
        """Environment variables for the committer: none if git has an identity, else ``name``."""
        try:
            self.run("var", "GIT_COMMITTER_IDENT", env={})
            return {}
        except GitError:
            identity = {"NAME": name, "EMAIL": "pipeline@localhost"}
            roles = ("AUTHOR", "COMMITTER")
            return {
                f"GIT_{role}_{key}": os.environ.get(f"GIT_{role}_{key}") or value
                for role in roles
                for key, value in identity.items()
            }
