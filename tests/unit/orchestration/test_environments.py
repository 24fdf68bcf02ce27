"""Where steps' environments are built if the home's path has a space, which MLflow can't have."""

import os
from pathlib import Path

import pytest
from mlflow.environment_variables import MLFLOW_ENV_ROOT

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.orchestration.execution import environments


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for everybody's temporary files, beside a home with a space."""
    home, shared = tmp_path / "a home", tmp_path / "shared"
    home.mkdir()
    shared.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(settings.SYSTEM_TMPDIR, str(shared))
    monkeypatch.delenv(MLFLOW_ENV_ROOT.name, raising=False)
    return shared


def prepared(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that another run uses."""
    monkeypatch.setenv(MLFLOW_ENV_ROOT.name, str(Path.home() / ".mlflow" / "envs"))
    environments.prepare_process()
    return Path(MLFLOW_ENV_ROOT.get()).parent


def test_all_runs_share_a_folder_whose_name_nobody_knows(shared: Path, monkeypatch):
    root = prepared(monkeypatch)
    assert prepared(monkeypatch) == root
    assert list(shared.iterdir()) == [root]
    assert root.name != f"mlflow-envs-{os.getuid()}"
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_write_or_a_link_is_not_used(shared: Path, monkeypatch):
    first = prepared(monkeypatch)
    first.chmod(0o777)
    second = prepared(monkeypatch)
    assert second != first
    second.rmdir()
    second.symlink_to(Path.home())
    third = prepared(monkeypatch)
    assert third not in (first, second, Path.home())
    monkeypatch.setattr(os, "getuid", lambda: third.stat().st_uid + 1)
    assert prepared(monkeypatch) != third


def test_temporary_files_below_a_space_help_nobody(shared: Path, monkeypatch):
    place = shared / "a folder"
    place.mkdir()
    monkeypatch.setenv(settings.SYSTEM_TMPDIR, str(place))
    with pytest.raises(PipelineError, match=MLFLOW_ENV_ROOT.name):
        prepared(monkeypatch)
    assert not list(place.iterdir())
