"""What steps are told of MLflow's store."""

import json
from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.core.errors import PipelineError
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


WORKSPACE = {"subscription_id": "1-2", "resource_group": "team", "workspace_name": "ml"}
WHERE = "subscriptions/1-2/resourceGroups/team/providers/Microsoft.MachineLearningServices"


def test_an_azure_workspace_is_the_store(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Where MLflow's plugin is installed, and no other store is named."""
    file = folder / "config.json"
    file.write_text('["of something else"]')
    assert _mlflow_store(None, folder / "state") == (None, None)
    file.write_text(json.dumps({**WORKSPACE, "location": "westeurope"}))
    store, notice = _mlflow_store(None, folder / "state")
    assert store is None
    assert "names an Azure ML workspace, and azureml-mlflow is not installed" in notice
    installed(folder / "site", monkeypatch)
    address = f"azureml://westeurope.api.azureml.ms/mlflow/v2.0/{WHERE}/workspaces/ml"
    store, notice = _mlflow_store(None, folder / "state")
    assert (store, notice) == (address, f"MLflow's store is the Azure ML workspace of {file}")
    assert settings.tracking_uri() == address
    assert settings.mlflow_on_server()
    assert _mlflow_store("sqlite:///a.db", folder)[0] == f"sqlite:///{folder}/a.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")  # by mlflow run
    assert _mlflow_store(None, folder / "state")[0] == address


def test_an_azure_workspace_needs_its_region(folder: Path, monkeypatch: pytest.MonkeyPatch):
    installed(folder / "site", monkeypatch)
    (folder / ".azureml").mkdir()
    file = folder / ".azureml" / "config.json"
    file.write_text(json.dumps(WORKSPACE))
    with pytest.raises(PipelineError, match="names the Azure ML workspace ml but not its region"):
        _mlflow_store(None, folder)
    given = {**WORKSPACE, "mlflow_tracking_uri": "azureml://x.api.azureml.ms/mlflow/v1.0/y"}
    file.write_text(json.dumps(given))
    assert _mlflow_store(None, folder)[0] == "azureml://x.api.azureml.ms/mlflow/v2.0/y"


def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package of the plugin's name."""
    about = site / "azureml_mlflow-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Name: azureml-mlflow\nVersion: 1\n")
    monkeypatch.syspath_prepend(site)
