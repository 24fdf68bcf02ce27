"""Pipelines at once on one store, while others clean, promote and commit."""

import random
from pathlib import Path

from tests.attack import crowd


def test_a_crowd(tmp_path: Path) -> None:
    assert crowd.attempt(tmp_path, random.Random(1)) == ""
