"""Reads and changes git trees entry by entry, without the user's index."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.provenance.git import Repository

NULL_ID = "0" * 40  # git's null id: no object, or a ref that does not exist yet

Entries = Mapping[str, tuple[str, str]]  # mode and object of each file, by path


class TreeRepository(Repository):
    """A repository with methods to compose trees."""

    def changed(self, *arguments: str, env: Mapping[str, str] | None = None) -> set[str]:
        """Paths that differ, between two commits or between a commit and an index."""
        options = ("--no-renames", "--no-ext-diff", "--ignore-submodules=none", "--name-only", "-z")
        return set(filter(None, self.run("diff", *options, *arguments, env=env).split("\0")))

    def entries(self, tree: str | None, prefix: str = "") -> Entries:
        """The files of a tree, or those at or below a path; empty without a tree."""
        if tree is None:
            return {}
        listing = self.run("ls-tree", "-rz", "--full-tree", tree, *([prefix] if prefix else []))
        lines = (line.partition("\t") for line in listing.split("\0") if line)
        return {path: (info.split()[0], info.split()[2]) for info, _, path in lines}

    @contextlib.contextmanager
    def index_of(self, tree: str) -> Iterator[dict[str, str]]:
        """The environment variables for a temporary index of a tree."""
        with tempfile.TemporaryDirectory(prefix="index-") as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
            self.run("read-tree", tree, env=index)
            yield index

    def add(self, entries: Entries, index: Mapping[str, str]) -> None:
        """Add files to an index."""
        text = "".join(f"{mode} {blob}\t{path}\0" for path, (mode, blob) in entries.items())
        self.run("update-index", "-z", "--index-info", text=text, env=index)

    def remove(self, paths: Iterable[str], index: Mapping[str, str]) -> None:
        """Remove files from an index."""
        self.add(dict.fromkeys(paths, ("0", NULL_ID)), index)
