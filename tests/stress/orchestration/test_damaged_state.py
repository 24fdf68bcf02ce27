"""With those of ``tests/stress/test_state.py``, five hundred edits of files in the state folder."""

from pathlib import Path

from tests.attack import state as attack
from tests.support.paths import ROOT
from tests.support.runs import Checkout, Finished


def test_more_edits(finished: tuple[Checkout, Finished], tmp_path: Path):
    checkout = attack.make(finished[0], tmp_path)
    words = ("-m", "tests.attack.state", tmp_path, "150", "1")
    done = checkout.python(*words, cwd=ROOT, PIPELINE_STATE_DIR=str(checkout.state))
    assert done.status == 0, done.err[-3000:]
    assert done.out.endswith("150 edits\n")
