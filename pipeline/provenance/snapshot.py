"""The exact code of a run, kept in git under ``refs/pipeline/<run id>``."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.provenance.git import EMPTY_TREE, GitError, Repository
from pipeline.provenance.origin import developer

REFS = "refs/pipeline"
FETCH = f"git fetch origin '{REFS}/*:{REFS}/*'"
MB = 1_000_000
LISTED = 10  # large files that a message names


class TooLarge(PipelineError):
    """Untracked files that would make the repository large."""


@dataclass(frozen=True)
class Snapshot:
    """A commit of the working tree as it stood when a run began.

    Attributes:
        ref: what refers to it.
        commit: its SHA.
        parent: the commit that was checked out; None before the first one.
        dirty: whether the tree differed from that commit.
        diff: by how much: ``2 files changed, 10 insertions(+)``; empty if it did not.
    """

    ref: str
    commit: str
    parent: str | None
    dirty: bool
    diff: str

    def tags(self) -> dict[str, str]:
        """What dashboards show of it."""
        dirty = str(self.dirty).lower()
        told = {"snapshot": self.commit, "ref": self.ref, "dirty": dirty, "diff": self.diff}
        return {f"git.{name}": value for name, value in told.items()}


def take(
    folder: Path, run_id: str, message: str, max_file_mb: float, exclude: Iterable[Path] = ()
) -> Snapshot:
    """Keep a folder as it stands: uncommitted and untracked files too, ignored ones not.

    Args:
        folder: a folder in a git repository.
        run_id: the run that it is kept for.
        message: the commit's message.
        max_file_mb: untracked files above this size are refused.
        exclude: folders to leave out, such as one that holds state.

    Raises:
        TooLarge: there are such files; nothing has been kept.
        GitError: there is no repository, or git can't write to it.
    """
    repository, exclude = Repository(folder), list(exclude)
    _refuse_large(repository, max_file_mb, exclude)
    parent = repository.commit("HEAD")
    tree = repository.tree(exclude)
    commit = repository.commit_tree(tree, [parent] if parent else [], message, developer())
    diff = repository.run("diff", "--shortstat", "--no-ext-diff", parent or EMPTY_TREE, commit)
    ref = f"{REFS}/{run_id}"
    repository.update_ref(ref, commit)
    return Snapshot(ref, commit, parent, bool(diff), diff.strip())


def _refuse_large(repository: Repository, limit: float, exclude: Iterable[Path]) -> None:
    sizes = {path: path.lstat().st_size for path in repository.untracked(exclude)}
    large = sorted((path for path in sizes if sizes[path] > limit * MB), key=sizes.__getitem__)[
        ::-1
    ]
    if not large:
        return
    shown = [f"{sizes[p] / MB:,.1f} MB  {p.relative_to(repository.folder)}" for p in large[:LISTED]]
    more = [f"and {len(large) - LISTED} more"] if len(large) > LISTED else []
    raise TooLarge(
        f"{len(large)} untracked file(s) above provenance.max_file_mb={limit:g} would be kept in "
        "git with this run's code:\n" + "\n".join(shown + more),
        "name them in .gitignore, move them out of the folder, or raise provenance.max_file_mb",
    )


def find(folder: Path, run_id: str) -> tuple[Repository, str]:
    """The repository and the commit that a run's code is kept in.

    Raises:
        PipelineError: there is none here.
    """
    repository = Repository(folder)
    commit = repository.commit(f"{REFS}/{run_id}")
    if commit is None:
        raise PipelineError(
            f"the code of run {run_id} is not in this repository ({REFS}/{run_id})",
            f"if the run was made elsewhere, push {REFS}/* there and fetch them here:\n  {FETCH}",
        )
    return repository, commit


def run_ids(folder: Path) -> set[str]:
    """The runs whose code is kept in this repository; none where there is no repository."""
    try:
        refs = Repository(folder).run("for-each-ref", "--format=%(refname)", f"{REFS}/")
    except GitError:
        return set()
    return {ref.removeprefix(f"{REFS}/") for ref in refs.split()}


def forget(folder: Path, runs: Iterable[str]) -> None:
    """Let git drop the code of runs, in its own time."""
    for run in runs:
        Repository(folder).run("update-ref", "-d", f"{REFS}/{run}")
