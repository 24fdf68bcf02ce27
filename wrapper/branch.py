"""Commits on a branch of the user's repository, without switching to it.

git itself makes the commit, so the user's identity, hooks and signing hold. It is given a HEAD and
an index of its own; the user's index is only brought up to date if the branch is the current one.
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
from wrapper.trees import NOTHING, TreeRepository

REFERENCES = "data_references"  # folder of what our commits say about data: one file a function
TABLES = {".csv", ".tsv", ".parquet", ".feather", ".arrow", ".npy", ".npz", ".h5", ".pkl", ".xlsx"}
LARGEST_MB = 50  # untracked files above this are hardly code
LOCK_SECONDS = 10  # how long another git process may hold the index


class Branch:
    """A branch to commit to: the current one, another, or one that is yet to be made.

    Attributes:
        top: the root of the working tree.
        current: whether the branch is the one that is checked out.
        base: the commit it is at, or HEAD's if there is no such branch; None before the first one.
    """

    def __init__(self, folder: str | Path, name: str):
        """Find the repository, and make sure that a commit can be made.

        Raises:
            PipelineError: it can't: says why, and what to do.
        """
        self._git = TreeRepository(_top(Path(folder).expanduser()))
        self.top, self.name = self._git.top, name
        if not (settings.ROOT / "main.py").is_file():  # the library is installed, not checked out
            variables.set_defaults({settings.STATE_DIR: str(self.top / ".pipeline")})
        checks.refuse(self._git, name)
        self.current = self._git.branch() == f"refs/heads/{name}"
        self.base = self._tip() or self._git.commit("HEAD")

    def _tip(self) -> str | None:
        return self._git.commit(f"refs/heads/{self.name}")

    def tree(self, data: Iterable[Path] = ()) -> str:
        """The working tree as it stands, untracked files included and ignored ones not.

        Data stays as it is in the branch: the files named here, those that earlier commits refer
        to, and untracked files of tables (``git add`` says that one belongs to the code).

        Args:
            data: files of data.

        Raises:
            PipelineError: an untracked file is too large to be code.
        """
        left = {*data, *self._known_data(), settings.state_dir()}
        untracked = self._git.untracked(left)
        tables = [path for path in untracked if path.suffix.lower() in TABLES]
        for path in tables:
            say(f"note: {path.relative_to(self.top)} is data, and is not committed",
                  file=sys.stderr)  # fmt: skip
        self._refuse_large(path for path in untracked if path not in tables)
        tree = self._git.tree([*left, *tables])
        with self._git.index_of(tree) as index:
            for path in left:
                if path.is_relative_to(self.top) and path != self.top:
                    name = path.relative_to(self.top).as_posix()
                    self._git.remove(self._git.entries(tree, name), index)
                    self._git.add(self._git.entries(self.base, name), index)
            return self._git.run("write-tree", env=index)

    def _known_data(self) -> list[Path]:
        """The files of data that references in the branch name."""
        paths = []
        for _, blob in self._git.entries(self.base, REFERENCES).values():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a file of somebody else's
                about = json.loads(self._git.run("cat-file", "blob", blob))
                paths.append(self.top / about["source"]["path"])
        return paths

    def _refuse_large(self, untracked: Iterable[Path]) -> None:
        sizes = {path: path.lstat().st_size / 1e6 for path in untracked}
        large = [path for path in sizes if sizes[path] > LARGEST_MB]
        if large:
            shown = (f"{path.relative_to(self.top)} ({sizes[path]:,.0f} MB)" for path in large[:10])
            raise PipelineError(
                f"{len(large)} untracked files above {LARGEST_MB} MB would be committed:\n"
                + "\n".join(shown),
                "name them in .gitignore, or move them out of the repository",
            )

    def commit(
        self, tree: str, message: str, references: Mapping[str, str], tag: str | None = None
    ) -> str:
        """Commit a tree of :meth:`tree`; the commit's SHA.

        Args:
            tree: the tree.
            message: the commit's message.
            references: text to add, by file name in the folder of references.
            tag: a tag to make.

        Raises:
            PipelineError: it can't be made; branch, index and files are as they were.
        """
        files = {f"{REFERENCES}/{name}": text for name, text in references.items()}
        lock = settings.state_dir() / "wrapper.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock), self._locked_index() as locked:
            before = self._tip()
            self._refuse_undoing(tree)
            with self._git.index_of(tree) as index:
                self._git.add(self._others_references(tree), index)
                for path, text in files.items():
                    blob = self._git.run("hash-object", "-w", "--stdin", text=text)
                    self._git.add({path: ("100644", blob)}, index)
                try:
                    commit = self._commit(message, index)
                    if tag:
                        self._git.update_ref(f"refs/tags/{tag}", commit, NOTHING)
                    if self.current:
                        self._bring_up(locked, before, commit, files)
                except BaseException as error:
                    self._move_back(before, tag)
                    if isinstance(error, OSError):
                        raise PipelineError(
                            f"the commit on {self.name!r} could not be made: {error}",
                            "check the disk and its permissions",
                        ) from error
                    raise
        return commit

    def _refuse_undoing(self, tree: str) -> None:
        """Refuse to undo, on the current branch, what was committed since the tree was taken."""
        tip = self._tip()
        if not self.current or tip == self.base:
            return
        lost = self._git.changed(self.base or EMPTY_TREE, tip) & self._git.changed(tree, tip)
        lost = {name for name in lost if not name.startswith(f"{REFERENCES}/")}
        if lost:
            raise PipelineError(
                f"while the function ran, others committed to {self.name!r}, and a commit of the "
                f"code that ran would undo that: {', '.join(sorted(lost)[:5])}",
                "call it again, or name a wrapper_branch that you don't work on",
            )

    def _others_references(self, tree: str) -> dict[str, tuple[str, str]]:
        """References in the branch that the working tree never had."""
        found = self._git.entries(self._tip(), REFERENCES)
        known = self._git.entries(self.base if self.current else tree, REFERENCES)
        return {path: entry for path, entry in found.items() if path not in known}

    def _commit(self, message: str, index: Mapping[str, str]) -> str:
        """Let git commit an index on the branch, from a git folder that has a HEAD and no more."""
        if self._tip() is None and self.base:
            self._git.update_ref(f"refs/heads/{self.name}", self.base, NOTHING)
        with tempfile.TemporaryDirectory(prefix="commit-") as folder:
            Path(folder, "HEAD").write_text(f"ref: refs/heads/{self.name}\n", encoding="utf-8")
            common = str(self._git.common_dir)
            Path(folder, "commondir").write_text(f"{common}\n", encoding="utf-8")
            own = {"GIT_DIR": folder, "GIT_WORK_TREE": str(self.top), "GIT_COMMON_DIR": common}
            words, env = ("commit", "--quiet", "--allow-empty"), {**own, "GIT_EDITOR": ":", **index}
            try:
                self._git.run(*words, f"--message={message}", env=env, as_user=True)
            except GitError as error:
                told = "\n".join(error.stderr.splitlines()[-10:]) or error.what
                raise PipelineError(
                    f"git refused the commit on {self.name!r}:\n{told}",
                    "put that right and call it again; hooks are checked as in `git commit`",
                ) from error
        return self._tip()

    def _move_back(self, before: str | None, tag: str | None) -> None:
        """Let the branch be where it was, and the tag be gone."""
        after, name = self._tip(), f"refs/heads/{self.name}"
        if after == before:
            return
        if tag:
            with contextlib.suppress(GitError):  # it is not there, or is not ours
                self._git.run("update-ref", "-d", f"refs/tags/{tag}", after)
        words = (name, before, after) if before else ("-d", name, after)
        self._git.run("update-ref", *words)

    @contextlib.contextmanager
    def _locked_index(self) -> Iterator[Path | None]:
        """The user's index, locked for other git processes, if it will have to be changed."""
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
                        "wait for its end; if there is none, remove that file",
                    ) from error
                time.sleep(0.1)  # its end can't be waited for otherwise
        try:
            yield lock
        finally:
            lock.unlink(missing_ok=True)

    def _bring_up(
        self, lock: Path, before: str | None, after: str, files: Mapping[str, str]
    ) -> None:
        """Bring the user's index up to a commit, but for what is staged; write the new files."""
        if self._git.index.exists():
            shutil.copyfile(self._git.index, lock)
        else:
            lock.unlink()  # git makes a new one, and no empty file is an index
        index, before = {"GIT_INDEX_FILE": str(lock)}, before or EMPTY_TREE
        staged = self._git.changed("--cached", before, env=index)
        above = {parent.as_posix() for name in staged for parent in Path(name).parents}
        changed = self._git.changed(before, after)
        free = {
            name
            for name in changed - staged - above
            if not any(parent.as_posix() in staged for parent in Path(name).parents)
        }
        wanted = self._git.entries(after)
        self._git.remove(free - wanted.keys(), index)
        self._git.add({name: wanted[name] for name in free & wanted.keys()}, index)
        for name, text in files.items():
            path = self.top / name
            path.parent.mkdir(exist_ok=True)
            write_whole(path, text)
        with contextlib.suppress(GitError):  # what it says: some files differ from the index
            self._git.run("update-index", "-q", "--refresh", env=index)
        lock.replace(self._git.index)


def _top(folder: Path) -> Path:
    """The root of the working tree that a folder is in.

    Raises:
        PipelineError: it is in none.
    """
    try:
        if git(folder, "rev-parse", "--is-bare-repository") == "true":
            raise PipelineError(
                f"{folder} is a bare repository: it has no files", "name a working tree"
            )
        return Path(git(folder, "rev-parse", "--show-toplevel"))
    except GitError as error:
        if not error.what.startswith(("not a git repository", "there is no folder")):
            raise  # there is no git, or it refuses to look at another user's repository
        raise PipelineError(
            f"wrapper_gitwd={str(folder)!r} is not in a git repository",
            "name a folder of one, or make one there: git init",
        ) from error
