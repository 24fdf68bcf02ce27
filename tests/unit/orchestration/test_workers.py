"""The folders of step workers, and the names of their sockets."""

import socket
from pathlib import Path

import pytest

from pipeline.orchestration.execution import workers


def test_only_what_killed_workers_have_left_is_removed(tmp_path: Path):
    gone, alive, mine = (tmp_path / f"workers-{end}" for end in ("abcd_123", "abcd_456", "mine"))
    starting, link = tmp_path / "workers-abcd_789", tmp_path / "workers-abcd_000"
    for folder in (gone, alive, mine, starting):
        folder.mkdir()
    link.symlink_to(mine)
    (mine / "file").touch()
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        one.bind(str(alive / "a"))
        one.listen()
        other.bind(str(gone / "b"))
        workers.remove_unused(tmp_path)
    assert {*tmp_path.iterdir()} == {alive, mine, starting, link}


@pytest.mark.parametrize(
    ("variable", "shared"),
    [("WANDB_PROJECT", True), ("WANDB_RUN_GROUP", True), ("LANG", False), ("WANDB_DIR", False)],
)
def test_only_variables_that_can_affect_imports_are_in_a_workers_name(variable: str, shared: bool):
    one, other = (
        workers.worker_name(Path("2-ETL"), "python", {"HOME": "/home/me", variable: value})
        for value in ("houses", "prod")
    )
    assert (one == other) == shared
