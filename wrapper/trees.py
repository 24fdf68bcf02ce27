"""Trees of a git repository, read and changed entry by entry, without its user's index."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.provenance.git import Repository

NOTHING = "0" * 40  # to git: no object, or a ref that is not there yet

Entries = Mapping[str, tuple[str, str]]  # mode and object of each file, by path


class TreeRepository(Repository):
    """A repository, with what is needed to put trees together."""

    def changed(self, *words: str, env: Mapping[str, str] | None = None) -> set[str]:
        """Paths that differ, between two commits or between a commit and an index."""
        form = ("--no-renames", "--no-ext-diff", "--ignore-submodules=none", "--name-only", "-z")
        return set(filter(None, self.run("diff", *form, *words, env=env).split("\0")))

    def entries(self, tree: str | None, below: str = "") -> Entries:
        """The files of a tree, or those at or below a path; none of no tree."""
        if tree is None:
            return {}
        told = self.run("ls-tree", "-rz", "--full-tree", tree, *([below] if below else []))
        entries = (line.partition("\t") for line in told.split("\0") if line)
        return {path: (about.split()[0], about.split()[2]) for about, _, path in entries}

    @contextlib.contextmanager
    def index_of(self, tree: str) -> Iterator[dict[str, str]]:
        """The environment in which git works on a temporary index of a tree."""
        with tempfile.TemporaryDirectory(prefix="index-") as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
            self.run("read-tree", tree, env=index)
            yield index

    def add(self, entries: Entries, index: Mapping[str, str]) -> None:
        """Put files into an index."""
        text = "".join(f"{mode} {blob}\t{path}\0" for path, (mode, blob) in entries.items())
        self.run("update-index", "-z", "--index-info", text=text, env=index)

    def remove(self, paths: Iterable[str], index: Mapping[str, str]) -> None:
        """Take files out of an index."""
        self.add(dict.fromkeys(paths, ("0", NOTHING)), index)
