"""What steps are told of MLflow's store."""

from pathlib import Path

import pytest

from pipeline.orchestration.context import _mlflow_store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_none_is_named(folder: Path):
    assert _mlflow_store(None, folder / "state") == (None, None)


def test_the_default_of_mlflow_run_is_no_wish(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Unless it is named by the setting, by a relative path, or is the state folder's own."""
    address = f"sqlite:///{folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    store, notice = _mlflow_store(None, folder / "state")
    assert store is None
    assert notice.endswith(f"; main.mlflow_uri={address} names it")
    assert str(folder / "state") in notice
    assert _mlflow_store(address, folder / "state") == (address, None)
    assert _mlflow_store(None, folder) == (address, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert _mlflow_store(None, folder / "state") == (address, None)


def test_a_setting_counts_more_than_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert _mlflow_store("sqlite:///a.db", folder) == (f"sqlite:///{folder}/a.db", None)
    assert _mlflow_store(None, folder) == ("http://127.0.0.1:1", None)
