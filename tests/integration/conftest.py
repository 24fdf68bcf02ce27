"""What integration tests share."""

import json

import pytest

from tests.support.registered import BAD, BETTER, GOOD, RUN, Registered
from tests.support.runs import Finished
from tests.support.steps import TINY, Steps


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """A registry with three versions: good, better, and a bad one that needs fewer columns.

    For all files: copy it.
    """
    place = Registered(tmp_path_factory.mktemp("registered") / "home")
    place.train(GOOD, BETTER, BAD, PIPELINE_STEP=json.dumps({"run_id": RUN}))
    return place


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Steps, dict[str, Finished]]:
    """A place in which all four steps have run as plain programs on a tiny table."""
    place = Steps(tmp_path_factory.mktemp("chain"))
    ended = {"1-Download_data": place.put(TINY)}
    ended["2-ETL"] = place.step("2-ETL")
    ended["3-Split_dataset"] = place.step("3-Split_dataset", stratify="legendary")
    ended["4-Training_model"] = place.step("4-Training_model")
    for result in ended.values():
        assert result.status == 0, result.err
    return place, ended
