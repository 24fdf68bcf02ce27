"""A part of each attack from outside: ``make attack`` does all of it."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import changes, crowd, kills
from tests.support.runs import Checkout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> changes.Place:
    return changes.make(tmp_path_factory.mktemp("changes"))


def some_changes() -> list[changes.Change]:
    """Every sixth one that matters, and every sixth one that does not."""
    known = changes.changes()
    groups = ([one for one in known if one.matters is matters] for matters in (True, False))
    return [one for group in groups for one in group[::6]]


@pytest.mark.parametrize("change", some_changes(), ids=lambda change: change.name)
def test_changes(place: changes.Place, change: changes.Change) -> None:
    assert not changes.attempt(place, change)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the four steps come to where nothing is killed."""
    return kills.digests(Checkout(tmp_path_factory.mktemp("expected")))


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A TMPDIR whose path leaves room for the names of sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("kill", kills.NAMED, ids=str)
def test_kills(tmp_path: Path, temporary: Path, kill: kills.Kill, expected: dict[str, str]) -> None:
    checkout = kills.Watched(tmp_path / "home", temporary=temporary)
    hit, wrong = kills.attempt(checkout, kill, random.Random(1), expected)
    assert hit
    assert wrong == []


def test_a_crowd(tmp_path: Path) -> None:
    assert crowd.attempt(tmp_path, random.Random(1)) == ""
