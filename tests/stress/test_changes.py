"""Some of the changes that ``make attack`` makes to what a step may have read."""

import pytest

from tests.attack import changes


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
