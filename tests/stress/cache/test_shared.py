"""Checkouts that share a tracker hand on each other's results, by the same evidence."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clones import Clone
from tests.support.runs import SMALL
from tests.support.wandb_server import WandbServer

RAN, CACHED = ["ran"] * 4, ["cached"] * 4
ONLY_SPLIT = ["cached", "cached", "ran", "cached"]


@pytest.fixture(params=["trackio", "wandb"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables of a tracker that two checkouts share."""
    if request.param == "trackio":
        yield {"TRACKIO_DIR": str(tmp_path / "trackio")}
        return
    with WandbServer() as server:
        yield server.environment()


def test_a_second_checkout_runs_only_what_differs(shared: dict[str, str], tmp_path: Path) -> None:
    first, second = Clone.make(tmp_path / "one"), Clone.make(tmp_path / "two")
    packages = tmp_path / "packages"
    packages.mkdir()
    shared["PYTHONPATH"] = str(packages)
    made = first.run(SMALL, **shared)
    assert made.states == RAN, made.err
    handed_on = second.run(SMALL, **shared)
    assert handed_on.states == CACHED, handed_on.err
    assert handed_on.versions() == made.versions()
    assert handed_on.summary["metrics"] == made.summary["metrics"]

    second.edit("3-Split_dataset/script.py", "both parts are named", "two parts are named")
    changed = second.run(SMALL, **shared)
    assert changed.states == ONLY_SPLIT, changed.err

    (packages / "zzz-1.0.dist-info").mkdir()
    told = second.run(SMALL, "main.explain=true", **shared).out
    assert "1-Download_data: environment zzz: (none) -> 1.0" in told
    assert second.run(SMALL, **shared).states == RAN
    assert first.run(SMALL, **shared).states == ONLY_SPLIT
