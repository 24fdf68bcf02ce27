"""What keeps a commit from being made, found before any work is done for it."""

import os
from pathlib import Path

import git

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


def refuse(repo: git.Repo, plumbing: Repository, branch: str) -> None:
    """Make sure that a commit can be made on a branch.

    Raises:
        PipelineError: it can't: says why, and what to do.
    """
    _state(repo, plumbing)
    _branch(plumbing, branch)
    _identity(plumbing)
    _read_only(repo)


def _state(repo: git.Repo, plumbing: Repository) -> None:
    for file, action in UNDER_WAY.items():
        if Path(repo.git_dir, file).exists():
            raise PipelineError(
                f"git {action} is under way in {plumbing.top}",
                f"finish it, or undo it: git {action} --abort",
            )
    if plumbing.run("ls-files", "--unmerged"):
        raise PipelineError(
            f"there are conflicts in {plumbing.top} that are not resolved",
            "resolve them, and git add the files: git status lists them",
        )
    if repo.head.is_detached:
        raise PipelineError(
            f"HEAD of {plumbing.top} is detached: no branch is checked out",
            "check one out: git switch BRANCH",
        )


def _branch(plumbing: Repository, name: str) -> None:
    """Refuse a name that can't be a branch's, or a branch that other files belong to."""
    try:
        words = ("check-ref-format", "--branch", name)  # it looks up @{-1} and the like
        if name == "HEAD" or plumbing.run(*words) != name:
            raise GitError("not a plain name")
    except GitError as error:
        raise PipelineError(
            f"wrapper_branch={name!r} can't be the name of a branch", "choose another"
        ) from error
    for tree in plumbing.run("worktree", "list", "--porcelain").split("\n\n"):
        told = dict(line.partition(" ")[::2] for line in tree.splitlines())
        elsewhere = "prunable" not in told and Path(told.get("worktree", "")) != plumbing.top
        if elsewhere and told.get("branch") == f"refs/heads/{name}":
            raise PipelineError(
                f"branch {name!r} is checked out in another worktree: {told['worktree']}",
                "choose another wrapper_branch, or switch that worktree to another branch",
            )


def _identity(plumbing: Repository) -> None:
    try:
        for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
            plumbing.run("-c", "user.useConfigOnly=true", "var", who)
    except GitError as error:
        raise PipelineError(
            "git does not know who commits",
            "tell it: git config user.name NAME, git config user.email ADDRESS",
        ) from error


def _read_only(repo: git.Repo) -> None:
    common = Path(repo.common_dir)
    for folder in (common, common / "objects", common / "refs", Path(repo.git_dir)):
        if not os.access(folder, os.W_OK):
            raise PipelineError(
                f"{folder} can't be written, so nothing can be committed",
                "check its permissions and its disk",
            )
