"""What Hydra may call at the end of a sweep."""

import pytest
from omegaconf import OmegaConf

from pipeline.sweeps.callback import Sweep


def test_an_interrupted_sweep_is_not_summarized(capsys: pytest.CaptureFixture):
    sweep = Sweep()
    sweep.run = "a run that MLflow does not have"
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sweep.on_multirun_end(OmegaConf.create())
    assert capsys.readouterr() == ("", "")
