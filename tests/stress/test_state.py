"""Hundreds of edits of files in the state folder: no traceback, no wrong result, nothing removed
outside."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.attack import state as attack
from tests.support.paths import ROOT
from tests.support.runs import SMALL, Checkout, Finished


@pytest.fixture(scope="module")
def place(
    finished: tuple[Checkout, Finished], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkout, Path]:
    folder = tmp_path_factory.mktemp("state")
    return attack.make(finished[0], folder), folder


def test_whatever_reads_the_state(place: tuple[Checkout, Path]):
    checkout, folder = place
    words = ("-m", "tests.attack.state", folder, "350")
    done = checkout.python(*words, cwd=ROOT, PIPELINE_STATE_DIR=str(checkout.state))
    assert done.status == 0, done.err[-3000:]
    assert done.out.endswith("350 edits\n")


def test_what_databases_held_is_made_again(
    place: tuple[Checkout, Path], finished: tuple[Checkout, Finished]
):
    """Once those that can't be read are out of the way."""
    checkout, folder = place
    for name in ("mlflow.db", "trackio/pokemon.db"):
        attack.restore(folder / "kept", checkout.state)
        (checkout.state / name).rename(checkout.state / "away")
        again = checkout.run(SMALL)
        assert again.states == ["ran"] * 4, again.out + again.err
        assert digests(again) == digests(finished[1])
        assert checkout.tool("verify").out.strip() == "no problems found"


def digests(done: Finished) -> dict[str, str]:
    return {name: output["digest"] for name, output in done.outputs().items()}


@settings(max_examples=14, deadline=None, suppress_health_check=[*HealthCheck])
@given(edit=attack.EDITS)
def test_the_next_run(
    place: tuple[Checkout, Path], finished: tuple[Checkout, Finished], edit: attack.Edit
):
    """It comes to the same result, or says in a few lines why it can't."""
    checkout, folder = place
    attack.restore(folder / "kept", checkout.state)
    path = edit.make(checkout.state, folder / "outside")
    before = attack.content_digest(folder / "outside")
    done = checkout.run(SMALL)
    told = f"{edit.kind} of {path}\n{done.out}\n{done.err}"
    assert "Traceback" not in done.out + done.err, told
    assert attack.content_digest(folder / "outside") == before, told
    if done.status == 0:
        assert digests(done) == digests(finished[1]), told
    else:
        assert len(done.err.strip().splitlines()) <= 6, told
