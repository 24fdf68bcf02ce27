"""A sweep on Ray whose process is killed; ``make attack`` draws more, and test_ray kills a node."""

import random
import sys
import tempfile
from pathlib import Path

import pytest

from tests.attack import kills


@pytest.mark.skipif(" " in sys.executable, reason="Ray can't start from a path with a space")
def test_kills(tmp_path: Path, temporary: Path, expected: dict[str, str]) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as short,
        kills.machine(tmp_path / "servers", Path(short)) as machine,
    ):
        checkout = kills.OnRay(tmp_path / "home", temporary=temporary, machine=machine)
        hit, wrong = kills.attempt(checkout, kills.OF_RAY[0], random.Random(1), expected)
    assert hit
    assert wrong == []
