"""What the tests of whole pipelines on a W&B server share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import shared_workers
from tests.support.runs import Checkout
from tests.support.wandb_server import WandbServer


@pytest.fixture
def server() -> Iterator[WandbServer]:
    """A server of its own for each test, and no process left behind."""
    with WandbServer() as running:
        yield running
    assert shared_workers.other_processes() == []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)
