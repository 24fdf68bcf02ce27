"""A state folder that the version before the packages made: its stores are used, not its records.

``earlier_state.tar.xz`` is that folder after ``main.steps=[1,2]`` in /tmp/pokemon.
"""

import tarfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.runs import Checkout

STATE = ROOT / "tests" / "integration" / "data" / "earlier_state.tar.xz"
RUN = "20261124-204749-0d3943"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    checkout = Checkout(tmp_path / "home")
    with tarfile.open(STATE) as archive:
        archive.extractall(checkout.state, filter="data")
    return checkout


def test_its_stores_are_used_and_its_records_are_not(checkout: Checkout):
    options = ("main.steps=[1,2]", "main.experiment_name=later")
    done = checkout.run(*options)
    assert done.states[:2] == ["ran", "ran"], done.err
    assert done.out.count("an earlier version's records of finished steps, which are ignored") == 1
    versions = {name: output["version"] for name, output in done.outputs().items()}
    assert versions == {"pokemon.csv": "v0", "clean_data.csv": "v1"}  # now with its schema
    again = checkout.run(*options)
    assert again.states[:2] == ["cached", "cached"]
    assert "earlier version" not in again.out


def test_its_run_is_in_the_history(checkout: Checkout):
    shown = checkout.tool("show", RUN)
    assert shown.status == 0, shown.err
    assert "clean_data.csv" in shown.out
