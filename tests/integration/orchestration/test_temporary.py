"""The temporary folder of a run."""

import tempfile
from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.orchestration.execution.processes import Marker, Temporary


def test_a_trial_that_runs_again_removes_what_its_killed_process_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    monkeypatch.delenv(settings.SYSTEM_TMPDIR, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "pipeline-0123abcd"
    folder.mkdir()
    killed = Marker("one")
    killed.note(temporary=str(folder))
    killed.release()
    again = Temporary(Marker("one"))
    again.begin()
    assert not folder.exists()
    again.end()
    assert not list((tmp_path / "state" / "running").iterdir())
