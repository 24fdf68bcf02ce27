"""What keeps a commit from being made, found before any work is done for it."""

import os
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.provenance.git import GitError, Repository

UNDER_WAY = {  # files in the git folder, and the command that has left them
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply/applying": "am",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}


def refuse(repository: Repository, branch: str) -> None:
    """Make sure that a commit can be made on a branch.

    Raises:
        PipelineError: it can't: says why, and what to do.
    """
    _state(repository)
    _branch(repository, branch)
    _identity(repository)
    _read_only(repository)


def _state(repository: Repository) -> None:
    for file, action in UNDER_WAY.items():
        if (repository.git_dir / file).exists():
            raise PipelineError(
                f"git {action} is under way in {repository.top}",
                f"finish it, or undo it: git {action} --abort",
            )
    if repository.run("ls-files", "--unmerged"):
        raise PipelineError(
            f"there are conflicts in {repository.top} that are not resolved",
            "resolve them, and git add the files: git status lists them",
        )
    if repository.branch() is None:
        raise PipelineError(
            f"HEAD of {repository.top} is detached: no branch is checked out",
            "check one out: git switch BRANCH",
        )


def _branch(repository: Repository, name: str) -> None:
    """Refuse a name that can't be a branch's, or a branch that other files belong to."""
    try:
        words = ("check-ref-format", "--branch", name)  # it looks up @{-1} and the like
        if name == "HEAD" or repository.run(*words) != name:
            raise GitError("not a plain name")
    except GitError as error:
        raise PipelineError(
            f"wrapper_branch={name!r} can't be the name of a branch", "choose another"
        ) from error
    for tree in repository.run("worktree", "list", "--porcelain").split("\n\n"):
        told = dict(line.partition(" ")[::2] for line in tree.splitlines())
        elsewhere = "prunable" not in told and Path(told.get("worktree", "")) != repository.top
        if elsewhere and told.get("branch") == f"refs/heads/{name}":
            raise PipelineError(
                f"branch {name!r} is checked out in another worktree: {told['worktree']}",
                "choose another wrapper_branch, or switch that worktree to another branch",
            )


def _identity(repository: Repository) -> None:
    try:
        for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
            repository.run("-c", "user.useConfigOnly=true", "var", who)
    except GitError as error:
        raise PipelineError(
            "git does not know who commits",
            "tell it: git config user.name NAME, git config user.email ADDRESS",
        ) from error


def _read_only(repository: Repository) -> None:
    common = repository.common_dir
    for folder in (common, common / "objects", common / "refs", repository.git_dir):
        if not os.access(folder, os.W_OK):
            raise PipelineError(
                f"{folder} can't be written, so nothing can be committed",
                "check its permissions and its disk",
            )
