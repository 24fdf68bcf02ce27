"""Only one run at a time looks a step up or runs it, by the lock that the cache is given."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.cache.finished import Cache


def test_a_step_is_locked_by_the_lock_that_was_given(tmp_path: Path):
    held: list[Path] = []

    @contextlib.contextmanager
    def lock(path: Path) -> Iterator[None]:
        held.append(path)
        yield
        held.remove(path)

    cache = Cache(tmp_path, lock)
    with cache.alone("2-ETL", "one"), cache.alone("2-ETL", "two"):
        assert [path.stem for path in held] == ["one", "two"]
        assert {path.parent.name for path in held} == {"2-ETL"}
    assert not held


def test_others_on_this_machine_see_that_a_step_is_under_way(tmp_path: Path):
    cache, other = Cache(tmp_path), Cache(tmp_path)
    with cache.alone("2-ETL", "one"):
        assert other.under_way("2-ETL", "one")
        assert not other.under_way("2-ETL", "two")
    assert not other.under_way("2-ETL", "one")
