"""What the attacks share: what is expected of a run, and a place for temporary files."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import kills
from tests.support.runs import Checkout


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the four steps come to where nothing is killed."""
    return kills.digests(Checkout(tmp_path_factory.mktemp("expected")))


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A TMPDIR whose path leaves room for the names of sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
