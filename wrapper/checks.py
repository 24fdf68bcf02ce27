"""Checks that a commit can be made, before the decorated function runs."""

import os
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.provenance.git import GitError, Repository

UNDER_WAY = {  # files in the git folder during a git command, and the command
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply/applying": "am",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}


def check_commit(repository: Repository, branch: str) -> None:
    """Check that a commit can be made on a branch.

    Raises:
        PipelineError: a commit can't be made.
    """
    _refuse_operations(repository)
    _refuse_name(repository, branch)
    _require_identity(repository)
    _require_writable(repository)


def _refuse_operations(repository: Repository) -> None:
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


def _refuse_name(repository: Repository, name: str) -> None:
    """Refuse an invalid name, or a branch that is checked out in another worktree."""
    try:
        arguments = ("check-ref-format", "--branch", name)  # resolves @{-1} to a name
        if name == "HEAD" or repository.run(*arguments) != name:
            raise GitError("not a plain name")
    except GitError as error:
        raise PipelineError(
            f"wrapper_branch={name!r} can't be the name of a branch", "choose another"
        ) from error
    for block in repository.run("worktree", "list", "--porcelain").split("\n\n"):
        lines = (line.partition(" ") for line in block.splitlines())
        worktree = {key: value for key, _, value in lines}
        is_elsewhere = (
            "prunable" not in worktree and Path(worktree.get("worktree", "")) != repository.top
        )
        if is_elsewhere and worktree.get("branch") == f"refs/heads/{name}":
            raise PipelineError(
                f"branch {name!r} is checked out in another worktree: {worktree['worktree']}",
                "choose another wrapper_branch, or switch that worktree to another branch",
            )


def _require_identity(repository: Repository) -> None:
    try:
        for identity in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
            repository.run("-c", "user.useConfigOnly=true", "var", identity)
    except GitError as error:
        raise PipelineError(
            "git has no name and address for the commit's author",
            "set them: git config user.name NAME, git config user.email ADDRESS",
        ) from error


def _require_writable(repository: Repository) -> None:
    common = repository.common_dir
    for folder in (common, common / "objects", common / "refs", repository.git_dir):
        if not os.access(folder, os.W_OK):
            raise PipelineError(
                f"{folder} can't be written, so nothing can be committed",
                "check its permissions and its disk",
            )
