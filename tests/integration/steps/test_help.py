"""``python script.py --help`` works from any folder, and lists every parameter."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.steps.folders import step_folders
from tests.support.paths import ROOT
from tests.support.steps import load_step


@pytest.mark.parametrize("step", step_folders())
def test_help(step: str, tmp_path: Path):
    command = [sys.executable, ROOT / step / "script.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for action in load_step(step).arguments()._actions:
        assert action.option_strings[-1] in done.stdout
        assert action.help
    assert not any(tmp_path.iterdir())
