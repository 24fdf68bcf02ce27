"""Runs whose processes are killed at named points: ``make attack`` draws more."""

import random
from pathlib import Path

import pytest

from tests.attack import kills


@pytest.mark.parametrize("kill", kills.OF_RUNS, ids=str)
def test_kills(tmp_path: Path, temporary: Path, kill: kills.Kill, expected: dict[str, str]) -> None:
    checkout = kills.Watched(tmp_path / "home", temporary=temporary)
    hit, wrong = kills.attempt(checkout, kill, random.Random(1), expected)
    assert hit
    assert wrong == []
