"""Data and models in Azure Blob Storage: Azurite stands for it, and no key is ever told."""

import json
import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from azure.storage.blob import BlobServiceClient
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import azure, settings
from pipeline.core.errors import PipelineError
from pipeline.tracking.mlflow import store as mlflow_store
from tests.support import servers
from tests.support.paths import ROOT
from tests.support.runs import SMALL, Checkout, environment
from wrapper import store

pytestmark = pytest.mark.skipif(
    shutil.which("azurite-blob") is None,
    reason="Azurite is not installed (npm install --global azurite@3.35.0)",
)
MLFLOW = f"wasbs://models@{servers.AZURE_ACCOUNT}.blob.core.windows.net/team"
PROGRAM = """
import sys
import pandas as pd
from sklearn.linear_model import LinearRegression
from wrapper.preprocess_wrapper import preprocess_wrapper
from wrapper.train_wrapper import train_wrapper

where = dict(wrapper_branch="runs", wrapper_gitwd=".")

@preprocess_wrapper
def preprocess(X, y):
    return {"all": X, "target": y}

@train_wrapper
def train():
    return {"metrics": {"r2": 1.0}, "model": LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])}

if "preprocess" in sys.argv:
    preprocess(**where, wrapper_data_path="data.csv", wrapper_target_cols="y",
               wrapper_data_store="abfs://data/made/here")
if "train" in sys.argv:
    train(**where)
"""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A storage account with two containers."""
    with servers.azurite(tmp_path_factory.mktemp("azurite")) as connection:
        account = BlobServiceClient.from_connection_string(connection)
        for name in ("data", "models"):
            account.create_container(name)
        yield SimpleNamespace(connection=connection, account=account)
        account.close()


def key_of(connection: str) -> str:
    """The secret part."""
    key = re.split("[;,]", connection.partition("AccountKey=")[2])[0]
    assert len(key) > 80
    return key


class User:
    """Somebody with a repository and a program in it."""

    def __init__(self, home: Path, connection: str):
        self.place, self.connection = Checkout(home), connection
        self.top = home / "repository"
        self.top.mkdir()
        (self.top / "program.py").write_text(PROGRAM)
        (self.top / "data.csv").write_text("a,y\n1,2\n3,4\n")
        self.env = environment(
            home,
            GIT_CONFIG_GLOBAL=os.devnull,
            PYTHONPATH=str(ROOT),
            PIPELINE_TRACKER="trackio",
            PIPELINE_STATE_DIR=str(self.place.state),
            PIPELINE_ARTIFACT_ROOT=MLFLOW,
            AZURE_STORAGE_CONNECTION_STRING=connection,
        )
        self.git("init", "-q", "-b", "main")
        for key, value in (("name", "Ada"), ("email", "ada@example.org")):
            self.git("config", f"user.{key}", value)

    def git(self, *words: str) -> str:
        command = ["git", *words]
        return subprocess.run(
            command, cwd=self.top, env=self.env, capture_output=True, check=True
        ).stdout.decode("utf-8", "replace")

    def run(self, *words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "program.py", *words]
        return subprocess.run(
            command, cwd=self.top, env=self.env, capture_output=True, text=True, check=False
        )

    def assert_nothing_told(self, *texts: str) -> None:
        """The key is in no text, and in no file of the user's, git's, MLflow's or ours."""
        key = key_of(self.connection)
        files = [path for path in self.place.home.rglob("*") if path.is_file()]
        packed = self.git("cat-file", "--batch-all-objects", "--batch")
        for text in (*texts, packed):
            assert key not in text
        for path in files:
            assert key.encode() not in path.read_bytes(), path


@pytest.fixture(scope="module")
def done(storage, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Both decorators, with all they keep in Azure."""
    user = User(tmp_path_factory.mktemp("user"), storage.connection)
    ended = user.run("preprocess", "train")
    assert ended.returncode == 0, ended.stderr
    return SimpleNamespace(user=user, out=ended.stdout + ended.stderr)


def test_the_decorators_data_is_in_azure(done, storage):
    about = json.loads(done.user.git("show", "runs:data_references/preprocess.json"))
    assert set(about["data"]) == {"all", "target"}
    found = about["data"]["all"]
    assert found["address"].startswith(f"abfs://data/made/here/{about['id']}/")
    options = {"connection_string": storage.connection}
    assert pd.read_csv(found["address"], storage_options=options).equals(
        pd.DataFrame({"a": [1, 3]})
    )
    blobs = {blob.name for blob in storage.account.get_container_client("data").list_blobs()}
    everything = (about["source"], *about["data"].values())
    assert blobs == {told["address"].removeprefix("abfs://data/") for told in everything}
    assert not (done.user.place.state / "trackio").exists()


def test_the_decorators_model_is_in_azure(done, storage, tmp_path, monkeypatch):
    client = mlflow.MlflowClient(f"sqlite:///{done.user.place.state / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("dev").experiment_id])
    assert run.info.artifact_uri.startswith(MLFLOW)
    [model] = client.search_logged_models(experiment_ids=[run.info.experiment_id])
    monkeypatch.setenv(azure.CONNECTION, storage.connection)
    fitted = mlflow.sklearn.load_model(model.artifact_location, dst_path=str(tmp_path))
    assert fitted.predict([[3.0]]) == pytest.approx(3)
    assert run.info.run_id in done.user.git("tag")


def test_the_connection_string_is_nowhere(done):
    done.user.assert_nothing_told(done.out)


def test_a_pipeline_with_its_models_in_azure(storage, tmp_path: Path):
    user = User(tmp_path / "user", storage.connection)
    secret = {azure.CONNECTION: storage.connection}
    ended = user.place.run(SMALL, f"main.artifact_root={MLFLOW}/pipeline", **secret)
    assert ended.status == 0, ended.err
    blobs = [blob.name for blob in storage.account.get_container_client("models").list_blobs()]
    assert any(name.startswith("team/pipeline/") and "MLmodel" in name for name in blobs)
    assert not (user.place.state / "mlflow").exists()
    user.assert_nothing_told(ended.out, ended.err)


def wrong_key(connection: str) -> str:
    before, _, after = connection.partition("AccountKey=")
    return f"{before}AccountKey={'QUJD' * 22}{after[after.index(';') :]}"


@pytest.mark.parametrize(
    "change",
    [
        wrong_key,
        lambda connection: connection.replace("AccountName=", "Name="),
        lambda connection: connection.replace(";", ","),
    ],
)
def test_a_connection_string_that_is_wrong(storage, monkeypatch: pytest.MonkeyPatch, change):
    connection = change(storage.connection)
    monkeypatch.setenv(azure.CONNECTION, connection)
    with pytest.raises(PipelineError, match="failed") as caught:
        store.open_store("abfs://data/folder", "preprocess", "id")
    assert azure.CONNECTION in caught.value.remedy
    assert 2 <= len(str(caught.value).splitlines()) <= 3
    shown = "".join(traceback.format_exception(caught.value))
    assert key_of(connection) not in shown


def test_a_connection_string_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(azure.CONNECTION, raising=False)
    with pytest.raises(PipelineError, match=f"{azure.CONNECTION} is not set"):
        store.open_store("abfs://data/folder", "preprocess", "id")


def test_containers_that_are_not_there(storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(azure.CONNECTION, storage.connection)
    with pytest.raises(PipelineError, match="no container 'absent'"):
        store.open_store("abfs://absent/folder", "preprocess", "id")
    user, absent = User(tmp_path / "user", storage.connection), MLFLOW.replace("models", "absent")
    user.env[settings.ARTIFACT_ROOT] = absent
    ended = user.run("train")
    assert "Azure (wasbs://absent@" in ended.stderr
    assert "container" in ended.stderr.partition("PipelineError: ")[2]
    run = user.place.run(
        SMALL, f"main.artifact_root={absent}", **{azure.CONNECTION: storage.connection}
    )
    assert run.status == 1
    assert "Azure (wasbs://absent@" in run.err
    assert "Traceback" not in run.err
    assert len(run.err.splitlines()) < 10
    user.assert_nothing_told(ended.stdout, ended.stderr, run.out, run.err)
    assert user.git("for-each-ref") == ""


ADDRESSES = ("wasbs://a@b.blob.core.windows.net/a?sig=SECRET", "wasbs://models", "Key=SECRET;x")


@pytest.mark.parametrize("value", ADDRESSES)
def test_an_address_that_can_not_be(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv(settings.ARTIFACT_ROOT, value)
    with pytest.raises(PipelineError, match="not the address of a folder") as caught:
        settings.artifact_root()
    assert "SECRET" not in str(caught.value)


def test_an_experiment_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = Checkout(tmp_path / "place")
    monkeypatch.setenv(settings.STATE_DIR, str(place.state))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    mlflow_store.connect("dev")
    monkeypatch.setenv(settings.ARTIFACT_ROOT, MLFLOW)
    with pytest.raises(PipelineError, match="choose another main"):
        mlflow_store.connect("dev")
    assert mlflow_store.connect("in-azure") == mlflow_store.connect("in-azure")
    mlflow.set_tracking_uri(before)


def test_settings_that_can_not_be(tmp_path: Path):
    place = Checkout(tmp_path / "place")
    ended = place.run(f"main.artifact_root='{ADDRESSES[0]}'")
    assert (ended.status, "not the address" in ended.err) == (1, True)
    assert "SECRET" not in ended.err
    ended = place.run(f"main.artifact_root={MLFLOW}", "main.env_manager=uv")
    assert (ended.status, "main.env_manager=local" in ended.err) == (1, True)


def test_the_errors_of_the_library_are_told_without_the_signature(monkeypatch: pytest.MonkeyPatch):
    place = f"http://127.0.0.1:{servers.free_port()}/account"
    signature = "sv=2024-01-01&ss=b&sig=SECRET%2Bsignature%3D"
    monkeypatch.setenv(azure.CONNECTION, f"BlobEndpoint={place};SharedAccessSignature={signature}")
    monkeypatch.setitem(store.RETRIES, "retry_total", 0)
    with pytest.raises(PipelineError, match="failed") as caught:
        store.open_store("abfs://data/x", "preprocess", "id")
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_an_error_that_nobody_caught_is_shown_without_the_key(tmp_path: Path):
    raising = (
        "from pipeline.core import azure; azure.guard_tracebacks(); raise ValueError('at sig=XYZ')"
    )
    done = subprocess.run(
        [sys.executable, "-c", raising],
        env=environment(
            tmp_path,
            PYTHONPATH=str(ROOT),
            AZURE_STORAGE_CONNECTION_STRING="UseDevelopmentStorage=true",
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: at sig=***\n")


@given(st.text(), st.text(), st.text("abcXYZ019+/=", min_size=8))
def test_a_key_is_in_no_text(before: str, after: str, key: str):
    with pytest.MonkeyPatch.context() as patch:
        connection = f"AccountName=a;AccountKey={key};EndpointSuffix=x"
        patch.setenv(azure.CONNECTION, connection)
        for secret in (key, connection):
            assert azure.redacted("0" + secret + "0").count(azure.HIDDEN) >= 1
            assert key not in azure.redacted(f"{before} {secret} {after}")
