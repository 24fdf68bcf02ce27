"""Stores the exact code of a run in git, under ``refs/pipeline/<run id>``."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.provenance.git import EMPTY_TREE, GitError, Repository
from pipeline.provenance.origin import developer

REFS = "refs/pipeline"
FETCH = f"git fetch origin '{REFS}/*:{REFS}/*'"
MB = 1_000_000
LISTED = 10  # maximum number of files in a message


class TooLarge(PipelineError):
    """Untracked files are too large for the repository."""


@dataclass(frozen=True)
class Snapshot:
    """A commit of the working tree as it stood when a run began.

    Attributes:
        ref: the ref of the commit.
        commit: the commit's SHA.
        parent: the commit that was checked out; None in a repository without commits.
        dirty: whether the working tree differed from ``parent``.
        diff: a summary of the difference: ``2 files changed, 10 insertions(+)``; empty if none.
    """

    ref: str
    commit: str
    parent: str | None
    dirty: bool
    diff: str

    def tags(self) -> dict[str, str]:
        """The snapshot as tags of an MLflow run."""
        dirty = str(self.dirty).lower()
        values = {"snapshot": self.commit, "ref": self.ref, "dirty": dirty, "diff": self.diff}
        return {f"git.{name}": value for name, value in values.items()}


def take(
    folder: Path, run_id: str, message: str, max_file_mb: float, exclude: Iterable[Path] = ()
) -> Snapshot:
    """Commit a folder with its uncommitted and untracked files, without ignored files.

    Args:
        folder: a folder in a git repository.
        run_id: the run's id.
        message: the commit's message.
        max_file_mb: untracked files above this size are refused.
        exclude: folders to leave out, such as the state folder.

    Raises:
        TooLarge: there are such files; nothing has been stored.
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
    lines = [f"{sizes[p] / MB:,.1f} MB  {p.relative_to(repository.folder)}" for p in large[:LISTED]]
    omitted = [f"and {len(large) - LISTED} more"] if len(large) > LISTED else []
    raise TooLarge(
        f"{len(large)} untracked file(s) above provenance.max_file_mb={limit:g} would be kept in "
        "git with this run's code:\n" + "\n".join(lines + omitted),
        "name them in .gitignore, move them out of the folder, or raise provenance.max_file_mb",
    )


def find(folder: Path, run_id: str) -> tuple[Repository, str]:
    """The repository and the commit of a run's code.

    Raises:
        PipelineError: the repository has no code of this run.
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
    """The ids of the runs whose code is in this repository; none without a repository."""
    try:
        refs = Repository(folder).run("for-each-ref", "--format=%(refname)", f"{REFS}/")
    except GitError:
        return set()
    return {ref.removeprefix(f"{REFS}/") for ref in refs.split()}


def forget(folder: Path, runs: Iterable[str]) -> None:
    """Delete the refs of runs, so that git can remove their code."""
    for run in runs:
        Repository(folder).run("update-ref", "-d", f"{REFS}/{run}")
