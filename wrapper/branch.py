"""Commits to a branch of the user's repository without switching to it.

git itself makes the commit, so the user's identity, hooks and signing apply. It works with a
separate HEAD and index. The user's index is updated only if the branch is checked out.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock

from pipeline.core import settings, variables
from pipeline.core.errors import PipelineError
from pipeline.core.files import write_whole
from pipeline.core.text import say
from pipeline.provenance.git import EMPTY_TREE, GitError, git
from wrapper import checks
from wrapper.trees import NULL_ID, TreeRepository

REFERENCES = "data_references"  # folder of references to data in our commits, a file per function
TABLES = {".csv", ".tsv", ".parquet", ".feather", ".arrow", ".npy", ".npz", ".h5", ".pkl", ".xlsx"}
LARGEST_MB = 50  # larger untracked files are not committed
LOCK_SECONDS = 10  # wait for another git process that holds the index


class Branch:
    """A branch to commit to; it need not exist or be checked out.

    Attributes:
        top: the root of the working tree.
        current: whether the branch is checked out.
        base: the branch's commit, or HEAD's if there is no such branch; None without commits.
    """

    def __init__(self, folder: str | Path, name: str):
        """Find the repository, and check that a commit can be made.

        Raises:
            PipelineError: a commit can't be made.
        """
        self._git = TreeRepository(_top(Path(folder).expanduser()))
        self.top, self.name = self._git.top, name
        if not (settings.ROOT / "main.py").is_file():  # the library is installed, not checked out
            variables.set_defaults({settings.STATE_DIR: str(self.top / ".pipeline")})
        checks.check_commit(self._git, name)
        self.current = self._git.branch() == f"refs/heads/{name}"
        self.base = self._tip() or self._git.commit("HEAD")

    def _tip(self) -> str | None:
        return self._git.commit(f"refs/heads/{self.name}")

    def tree(self, data: Iterable[Path] = ()) -> str:
        """Write a git tree of the working tree with untracked files, without ignored files.

        Data files keep the branch's version: the files in ``data``, files that earlier commits
        refer to, and untracked tables. A table is included after ``git add``.

        Args:
            data: data files.

        Returns:
            The tree's SHA.

        Raises:
            PipelineError: an untracked file is too large to be code.
        """
        unchanged = {*data, *self._referenced_data(), settings.state_dir()}
        untracked = self._git.untracked(unchanged)
        tables = [path for path in untracked if path.suffix.lower() in TABLES]
        for path in tables:
            say(f"note: {path.relative_to(self.top)} is data, and is not committed",
                  file=sys.stderr)  # fmt: skip
        self._refuse_large(path for path in untracked if path not in tables)
        tree = self._git.tree([*unchanged, *tables])
        with self._git.index_of(tree) as index:
            for path in unchanged:
                if path.is_relative_to(self.top) and path != self.top:
                    name = path.relative_to(self.top).as_posix()
                    self._git.remove(self._git.entries(tree, name), index)
                    self._git.add(self._git.entries(self.base, name), index)
            return self._git.run("write-tree", env=index)

    def _referenced_data(self) -> list[Path]:
        """The data files that the branch's references name."""
        paths = []
        for _, blob in self._git.entries(self.base, REFERENCES).values():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # not a file of ours
                reference = json.loads(self._git.run("cat-file", "blob", blob))
                paths.append(self.top / reference["source"]["path"])
        return paths

    def _refuse_large(self, untracked: Iterable[Path]) -> None:
        sizes = {path: path.lstat().st_size / 1e6 for path in untracked}
        large = [path for path in sizes if sizes[path] > LARGEST_MB]
        if large:
            lines = (f"{path.relative_to(self.top)} ({sizes[path]:,.0f} MB)" for path in large[:10])
            raise PipelineError(
                f"{len(large)} untracked files above {LARGEST_MB} MB would be committed:\n"
                + "\n".join(lines),
                "name them in .gitignore, or move them out of the repository",
            )

    def commit(
        self, tree: str, message: str, references: Mapping[str, str], tag: str | None = None
    ) -> str:
        """Commit a tree of :meth:`tree`; return the commit's SHA.

        Args:
            tree: the tree's SHA.
            message: the commit's message.
            references: texts to add to the folder of references, by file name.
            tag: the name of a tag for the commit.

        Raises:
            PipelineError: the commit failed; branch, index and files are unchanged.
        """
        files = {f"{REFERENCES}/{name}": text for name, text in references.items()}
        lock = settings.state_dir() / "wrapper.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock), self._locked_index() as locked:
            before = self._tip()
            self._refuse_undoing(tree)
            with self._git.index_of(tree) as index:
                self._git.add(self._new_references(tree), index)
                for path, text in files.items():
                    blob = self._git.run("hash-object", "-w", "--stdin", text=text)
                    self._git.add({path: ("100644", blob)}, index)
                try:
                    commit = self._commit(message, index)
                    if tag:
                        self._git.update_ref(f"refs/tags/{tag}", commit, NULL_ID)
                    if locked:
                        self._update_index(locked, before, commit, files)
                except BaseException as error:
                    self._undo(before, tag)
                    if isinstance(error, OSError):
                        raise PipelineError(
                            f"the commit on {self.name!r} could not be made: {error}",
                            "check the disk and its permissions",
                        ) from error
                    raise
        return commit

    def _refuse_undoing(self, tree: str) -> None:
        """Check that a commit of the tree reverts no commit made since on the current branch.

        Raises:
            PipelineError: it would revert changes.
        """
        tip = self._tip()
        if not self.current or tip is None or tip == self.base:
            return
        reverted = self._git.changed(self.base or EMPTY_TREE, tip) & self._git.changed(tree, tip)
        reverted = {name for name in reverted if not name.startswith(f"{REFERENCES}/")}
        if reverted:
            raise PipelineError(
                f"while the function ran, others committed to {self.name!r}, and a commit of the "
                f"code that ran would undo their changes: {', '.join(sorted(reverted)[:5])}",
                "call the function again, or name a wrapper_branch that nobody works on",
            )

    def _new_references(self, tree: str) -> dict[str, tuple[str, str]]:
        """The branch's references that the tree lacks, so that the commit keeps them."""
        current = self._git.entries(self._tip(), REFERENCES)
        original = self._git.entries(self.base if self.current else tree, REFERENCES)
        return {path: entry for path, entry in current.items() if path not in original}

    def _commit(self, message: str, index: Mapping[str, str]) -> str:
        """Commit an index to the branch, from a temporary git folder with its own HEAD."""
        if self._tip() is None and self.base:
            self._git.update_ref(f"refs/heads/{self.name}", self.base, NULL_ID)
        with tempfile.TemporaryDirectory(prefix="commit-") as folder:
            Path(folder, "HEAD").write_text(f"ref: refs/heads/{self.name}\n", encoding="utf-8")
            common = str(self._git.common_dir)
            Path(folder, "commondir").write_text(f"{common}\n", encoding="utf-8")
            env = {"GIT_DIR": folder, "GIT_WORK_TREE": str(self.top), "GIT_COMMON_DIR": common}
            env |= {"GIT_EDITOR": ":", **index}
            arguments = ("commit", "--quiet", "--allow-empty")
            try:
                self._git.run(*arguments, f"--message={message}", env=env, as_user=True)
            except GitError as error:
                reason = "\n".join(error.stderr.splitlines()[-10:]) or error.what
                raise PipelineError(
                    f"git refused the commit on {self.name!r}:\n{reason}",
                    "correct that and call the function again; hooks run as in `git commit`",
                ) from error
        return self._git.run("rev-parse", f"refs/heads/{self.name}")

    def _undo(self, before: str | None, tag: str | None) -> None:
        """Move the branch back to its earlier commit, and remove the tag."""
        after, name = self._tip(), f"refs/heads/{self.name}"
        if after is None or after == before:
            return
        if tag:
            with contextlib.suppress(GitError):  # there is no such tag, or it is on another commit
                self._git.run("update-ref", "-d", f"refs/tags/{tag}", after)
        arguments = (name, before, after) if before else ("-d", name, after)
        self._git.run("update-ref", *arguments)

    @contextlib.contextmanager
    def _locked_index(self) -> Iterator[Path | None]:
        """Lock the user's index against other git processes if the branch is checked out.

        Yields:
            The lock file, or None.

        Raises:
            PipelineError: another git process holds the lock for too long.
        """
        if not self.current:
            yield None
            return
        lock, limit = self._git.index.with_name("index.lock"), time.monotonic() + LOCK_SECONDS
        while True:
            try:
                os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                break
            except FileExistsError as error:
                if time.monotonic() > limit:
                    raise PipelineError(
                        f"another git process holds {lock}",
                        "wait until it ends; if there is no such process, remove the file",
                    ) from error
                time.sleep(0.1)  # git gives no event to wait for
        try:
            yield lock
        finally:
            lock.unlink(missing_ok=True)

    def _update_index(
        self, lock: Path, before: str | None, after: str, files: Mapping[str, str]
    ) -> None:
        """Update the user's index to a commit, except staged paths, and write the new files."""
        if self._git.index.exists():
            shutil.copyfile(self._git.index, lock)
        else:
            lock.unlink()  # git creates a new one; an empty file is no valid index
        index, before = {"GIT_INDEX_FILE": str(lock)}, before or EMPTY_TREE
        staged = self._git.changed("--cached", before, env=index)
        staged_parents = {parent.as_posix() for name in staged for parent in Path(name).parents}
        changed = self._git.changed(before, after)
        unstaged = {
            name
            for name in changed - staged - staged_parents
            if not any(parent.as_posix() in staged for parent in Path(name).parents)
        }
        entries = self._git.entries(after)
        self._git.remove(unstaged - entries.keys(), index)
        self._git.add({name: entries[name] for name in unstaged & entries.keys()}, index)
        for name, text in files.items():
            path = self.top / name
            path.parent.mkdir(exist_ok=True)
            write_whole(path, text)
        with contextlib.suppress(GitError):  # it fails if files differ from the index
            self._git.run("update-index", "-q", "--refresh", env=index)
        lock.replace(self._git.index)


def _top(folder: Path) -> Path:
    """The root of a folder's working tree.

    Raises:
        PipelineError: the folder is in no working tree.
    """
    try:
        if git(folder, "rev-parse", "--is-bare-repository") == "true":
            raise PipelineError(
                f"{folder} is a bare repository: it has no files", "name a working tree"
            )
        return Path(git(folder, "rev-parse", "--show-toplevel"))
    except GitError as error:
        if not error.what.startswith(("not a git repository", "there is no folder")):
            raise  # git is missing, or refuses another user's repository
        raise PipelineError(
            f"wrapper_gitwd={str(folder)!r} is not in a git repository",
            "name a folder of one, or make one there: git init",
        ) from error
