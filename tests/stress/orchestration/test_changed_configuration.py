"""Files that Hydra reads, wherever they are: what they change runs again, and nothing else."""

from pathlib import Path

import pytest

from tests.support.clones import Clone

QUICK = "main.steps=[1,2,3]"
CACHED, AGAIN = ["cached"] * 3, ["cached", "cached", "ran"]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A repository whose first steps have run."""
    made = Clone.make(tmp_path)
    assert made.run(QUICK).states[:3] == ["ran"] * 3
    return made


def sized(file: Path, size: float) -> None:
    """Let a file of settings set the size of the test part, too."""
    before = file.read_text() if file.exists() else "# @package _global_\nsplit:\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(before.replace("split:\n", f"split:\n  test_size: {size}\n"))


def test_a_folder_that_is_a_link(clone: Clone, tmp_path: Path):
    (clone.root / "conf").rename(tmp_path / "elsewhere")
    (clone.root / "conf").symlink_to(tmp_path / "elsewhere")
    assert clone.run(QUICK).states[:3] == CACHED
    sized(tmp_path / "elsewhere" / "data" / "pokemon.yaml", 0.3)
    assert clone.run(QUICK).states[:3] == AGAIN
    assert clone.run(QUICK).states[:3] == CACHED


def test_a_folder_of_the_search_path(clone: Clone, tmp_path: Path):
    file = tmp_path / "more" / "size" / "large.yaml"
    words = (QUICK, f"hydra.searchpath=[{(tmp_path / 'more').as_uri()},pkg://conf]", "+size=large")
    for size in (0.3, 0.35):
        file.unlink(missing_ok=True)
        sized(file, size)
        assert clone.run(*words).states[:3] == AGAIN
        assert clone.run(*words).states[:3] == CACHED


def test_a_file_beside_config_yaml(clone: Clone):
    """It stands before the one of the same name in conf."""
    file = clone.root / "data" / "pokemon.yaml"
    file.write_text((clone.root / "conf" / "data" / "pokemon.yaml").read_text())
    assert clone.run(QUICK).states[:3] == CACHED
    sized(file, 0.3)
    assert clone.run(QUICK).states[:3] == AGAIN
