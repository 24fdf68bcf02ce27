"""The code of a run is kept in git, and nothing that the user sees of git changes by it."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.provenance import origin, snapshot
from pipeline.provenance.git import GitError, Repository
from tests.support.clones import IDENTITY, git, seen


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit, and every kind of change to it."""
    top = tmp_path / "repository"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    for name in ("kept.py", "changed.py", "staged.py", "deleted.py", "tool.sh"):
        (top / name).write_text(f"# {name}\n")
    (top / ".gitignore").write_text("ignored*\n/state/\n")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    (top / "changed.py").write_text("# other\n")
    (top / "staged.py").write_text("# staged\n")
    git(top, "add", "staged.py")
    (top / "staged.py").write_text("# staged, then changed\n")
    (top / "deleted.py").unlink()
    (top / "tool.sh").chmod(0o755)
    (top / "näme\nwith newline.txt").write_text("untracked\n")
    (top / "folder").mkdir()
    (top / "folder" / "new.py").write_text("new\n")
    (top / "link").symlink_to("kept.py")
    (top / "ignored.csv").write_text("1\n")
    return top


FILES = {
    ".gitignore", "kept.py", "changed.py", "staged.py", "tool.sh", "folder/new.py", "link",
    "näme\nwith newline.txt",
}  # fmt: skip


def take(folder: Path, run: str = "run", limit: float = 1, **more) -> snapshot.Snapshot:
    return snapshot.take(folder, run, f"run {run}", limit, **more)


def names(folder: Path, commit: str) -> set[str]:
    return set(filter(None, git(folder, "ls-tree", "-rz", "--name-only", commit).split("\0")))


def test_the_tree_as_it_stands_and_nothing_else_changed(repository: Path):
    before, head = seen(repository), git(repository, "rev-parse", "HEAD")
    taken = take(repository)
    assert seen(repository) == before
    assert git(repository, "rev-parse", "refs/pipeline/run") == taken.commit
    assert git(repository, "rev-parse", "refs/pipeline/run^") == head == taken.parent
    assert names(repository, taken.commit) == FILES
    for name in ("changed.py", "staged.py", "folder/new.py"):
        shown = git(repository, "show", f"{taken.commit}:{name}")
        assert shown + "\n" == (repository / name).read_text()
    modes = git(repository, "ls-tree", taken.commit)
    assert "100755 blob" in next(line for line in modes.splitlines() if line.endswith("tool.sh"))
    assert taken.dirty
    assert taken.diff == "7 files changed, 5 insertions(+), 3 deletions(-)"
    assert taken.tags()["git.dirty"] == "true"


def test_a_clean_tree(repository: Path):
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "second")
    taken = take(repository)
    assert (taken.dirty, taken.diff) == (False, "")
    assert git(repository, "diff", "HEAD", taken.commit) == ""
    assert taken.parent == git(repository, "rev-parse", "HEAD")


def test_what_the_user_told_git_to_pass_over_is_code_all_the_same(repository: Path):
    git(repository, "update-index", "--assume-unchanged", "kept.py")
    git(repository, "update-index", "--skip-worktree", "tool.sh")
    (repository / "kept.py").write_text("local change\n")
    (repository / "tool.sh").write_text("another\n")
    before = seen(repository)
    taken = take(repository)
    assert seen(repository) == before
    assert git(repository, "show", f"{taken.commit}:kept.py") == "local change"
    assert git(repository, "show", f"{taken.commit}:tool.sh") == "another"


def test_a_change_within_the_clock_s_tick_is_seen(repository: Path):
    """Same size, same time: only the index's own time tells git to look."""
    file = repository / "kept.py"
    for letter in "abcdefgh":
        file.write_text(f"# {letter}\n")
        git(repository, "add", "kept.py")
        file.write_text(f"# {letter.upper()}\n")
        taken = take(repository, letter)
        assert git(repository, "show", f"{taken.commit}:kept.py") == f"# {letter.upper()}"


def conflict(top: Path, how: str) -> None:
    """Leave a merge or a rebase half done."""
    git(top, "stash", "-qu")
    for branch, text in (("theirs", "theirs\n"), ("main", "ours\n")):
        git(top, "checkout", "-q", *(("-b", branch) if branch == "theirs" else (branch,)))
        (top / "kept.py").write_text(text)
        git(top, "commit", "-qam", branch)
    subprocess.run(["git", *IDENTITY, how, "theirs"], cwd=top, capture_output=True, check=False)
    assert git(top, "diff", "--name-only", "--diff-filter=U") == "kept.py"


@pytest.mark.parametrize("how", ["merge", "rebase"])
def test_during_a_merge_or_rebase(repository: Path, how: str):
    conflict(repository, how)
    before = seen(repository)
    taken = take(repository)
    assert seen(repository) == before
    assert "<<<<<<<" in git(repository, "show", f"{taken.commit}:kept.py")
    with Repository(repository).worktree(taken.commit) as tree:
        assert "<<<<<<<" in (tree / "kept.py").read_text()
    assert seen(repository) == before
    assert taken.dirty


def test_without_a_branch_an_identity_or_a_commit(repository: Path, monkeypatch):
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("HOME", str(repository.parent))
    git(repository, "config", "user.useConfigOnly", "true")
    git(repository, "checkout", "-q", "--detach")
    monkeypatch.setenv("LOGNAME", "Misty")
    before = seen(repository)
    taken = take(repository)
    assert taken.dirty
    assert seen(repository) == before
    shown = git(repository, "log", "-1", "--format=%an, %cn <%ce>", taken.commit)
    assert shown == "Misty, Misty <pipeline@localhost>"

    new = repository.parent / "new"
    new.mkdir()
    git(new, "init", "-q")
    (new / "main.py").write_text("pass\n")
    taken = take(new)
    assert (taken.parent, taken.diff) == (None, "1 file changed, 1 insertion(+)")
    assert git(new, "log", "--format=%s", taken.commit) == "run run"


def test_in_another_worktree_and_in_a_subfolder(repository: Path, tmp_path: Path):
    git(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    side = tmp_path / "side"
    (side / "folder").mkdir()
    (side / "folder" / "inner.py").write_text("pass\n")
    (side / "outer.py").write_text("pass\n")
    before = seen(repository), seen(side)
    taken = take(side / "folder")
    assert (seen(repository), seen(side)) == before
    found = names(repository, taken.commit)
    assert "folder/inner.py" in found
    assert "outer.py" not in found  # not part of what is in the folder


def test_hooks_are_not_run_and_a_hook_s_variables_not_read(repository: Path, monkeypatch):
    for hook in ("pre-commit", "post-index-change", "reference-transaction", "post-checkout"):
        path = repository / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\ntouch hook-ran\nexit 1\n")
        path.chmod(0o755)
    monkeypatch.setenv("GIT_INDEX_FILE", str(repository / ".git" / "next-index"))
    before = seen(repository)
    taken = take(repository)
    with Repository(repository).worktree(taken.commit) as tree:
        assert seen(tree).keys() - {".git"} == FILES
    assert seen(repository) == before
    assert not tree.parent.exists()


def test_state_in_the_folder_is_left_out(repository: Path):
    (repository / "my state").mkdir()
    (repository / "my state" / "big.db").write_bytes(bytes(3_000_000))
    taken = take(repository, exclude=[repository / "my state", repository.parent / "elsewhere"])
    assert names(repository, taken.commit) == FILES


def test_large_untracked_files_are_refused_with_a_list(repository: Path):
    (repository / "folder" / "large.csv").write_bytes(bytes(2_500_000))
    (repository / "larger.csv").write_bytes(bytes(3_500_000))
    (repository / "ignored.bin").write_bytes(bytes(3_500_000))
    before = seen(repository)
    with pytest.raises(snapshot.TooLarge) as caught:
        take(repository, limit=2)
    assert caught.value.what.splitlines()[1:] == ["3.5 MB  larger.csv", "2.5 MB  folder/large.csv"]
    assert "provenance.max_file_mb=2" in caught.value.what
    assert seen(repository) == before
    assert not (repository / ".git" / "refs" / "pipeline").exists()
    assert take(repository, limit=4).dirty


def test_a_repository_that_cannot_be_written(repository: Path):
    """As root nothing is read-only, other than what is no disk."""
    objects = repository / ".git" / "objects"
    objects.rename(repository.parent / "objects")
    objects.symlink_to("/proc")
    before = seen(repository)
    with pytest.raises(GitError, match=r"unable to|insufficient permission"):
        take(repository)
    assert seen(repository) == before


def test_no_repository(tmp_path: Path):
    with pytest.raises(GitError, match="not a git repository"):
        take(tmp_path)


def test_the_commit_and_what_changed_since(repository: Path):
    head = git(repository, "rev-parse", "HEAD")
    assert origin.commit(repository) == origin.Commit(head, dirty=True)
    assert origin.changed_since(head, repository, "changed.py")
    assert not origin.changed_since(head, repository, "kept.py")
    assert not origin.changed_since("0" * 40, repository, "changed.py")
    git(repository, "stash", "-qu")
    assert origin.commit(repository) == origin.Commit(head, dirty=False)


def test_the_address_of_the_repository_has_no_password(repository: Path):
    assert origin.repository(repository) == ""
    git(repository, "remote", "add", "origin", "https://ada:secret@example.com/a/b.git")
    assert origin.repository(repository) == "https://example.com/a/b.git"
    git(repository, "remote", "set-url", "origin", "git@example.com:a/b.git")
    assert origin.repository(repository) == "git@example.com:a/b.git"


def test_origin_where_there_is_no_repository_or_no_git(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
):
    head = git(repository, "rev-parse", "HEAD")
    assert origin.commit(tmp_path) is None
    assert not origin.changed_since(head, tmp_path, "changed.py")
    monkeypatch.setenv("LOGNAME", "misty")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert origin.commit(repository) is None
    assert not origin.changed_since(head, repository, "changed.py")
    assert origin.developer() == "misty"


def test_a_snapshot_that_is_not_here(repository: Path):
    with pytest.raises(snapshot.PipelineError) as caught:
        snapshot.find(repository, "20260101-000000-abcdef")
    assert "20260101-000000-abcdef" in caught.value.what
    assert "git fetch origin 'refs/pipeline/*:refs/pipeline/*'" in caught.value.remedy


def test_export(repository: Path, tmp_path: Path):
    taken, before = take(repository), seen(repository)
    Repository(repository).export(taken.commit, tmp_path / "out")
    assert set(seen(tmp_path / "out")) == FILES
    assert (tmp_path / "out" / "staged.py").read_text() == "# staged, then changed\n"
    assert seen(repository) == before


def test_a_folder_that_is_ignored_may_be_named_as_one_to_leave_out(repository: Path):
    (repository / "state").mkdir()
    (repository / "state" / "mlflow.db").write_text("state")
    taken = take(repository, exclude=[repository / "state", repository / "folder"])
    assert names(repository, taken.commit) == FILES - {"folder/new.py"}


@pytest.fixture
def filtered(repository: Path, tmp_path: Path) -> Path:
    """The repository with a filter whose program leaves a mark; the mark's path."""
    mark, program = tmp_path / "mark", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ntr a-z A-Z\n")
    program.chmod(0o755)
    (repository / ".gitattributes").write_text("data* filter=up=per\n")
    for name in ("data.csv", "data[1].csv", "ignored-data.csv"):
        (repository / name).write_text("cells\n")
    (repository / ".gitattributes").write_text("*data* filter=up=per\n")
    config = f'[filter "up=per"]\n clean = {program}\n smudge = {program}\n required = true\n'
    (tmp_path / "config").write_text(config)
    return mark


def test_filters_of_the_checkout_are_not_run(repository: Path, filtered: Path, tmp_path: Path):
    with (repository / ".git" / "config").open("a") as file:
        file.write((tmp_path / "config").read_text())
    git(repository, "add", "--force", ".")
    assert filtered.exists()  # a user's own git runs it
    git(repository, "commit", "-qm", "second")
    assert git(repository, "show", "HEAD:data.csv") == "CELLS"
    filtered.unlink()
    os.utime(repository / "data.csv", (1, 1))
    origin.commit(repository)
    origin.changed_since("HEAD", repository, ".")
    taken, target = take(repository), tmp_path / "exported"
    target.mkdir()
    Repository(repository).export(taken.commit, target)
    with Repository(repository).worktree(taken.commit) as code:
        for folder in (target, code):
            for name in ("data.csv", "data[1].csv", "ignored-data.csv"):
                assert (folder / name).read_text() == "cells\n"
    assert not filtered.exists()


def test_filters_of_the_user_are_run(
    repository: Path, filtered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As Git LFS is, unless the checkout names programs for it."""
    config = tmp_path / "config"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    assert git(repository, "show", f"{take(repository).commit}:data.csv") == "CELLS"
    config.write_text(config.read_text().replace("up=per", "lfs"))
    (repository / ".gitattributes").write_text("data* filter=lfs\n")
    assert git(repository, "show", f"{take(repository, 'a').commit}:data.csv") == "CELLS"
    git(repository, "config", "lfs.extension.a.clean", "b")
    assert git(repository, "show", f"{take(repository, 'b').commit}:data.csv") == "cells"
