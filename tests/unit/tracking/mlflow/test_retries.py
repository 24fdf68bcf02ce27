"""The message while MLflow's server does not answer."""

import logging

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from urllib3.util import Retry

from pipeline.core import settings
from pipeline.tracking.mlflow import retries as mlflow_retries
from tests.support.faulty_server import Server

EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=1"
ANSWER = b'{"experiment": {"experiment_id": "1", "name": "one"}}'
WITHOUT_PAUSE = {
    mlflow_retries.RETRIES: "3",
    mlflow_retries.BACKOFF: "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    settings.TRACKER_TIMEOUT: "7",
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, server: Server) -> mlflow.MlflowClient:
    """MLflow's client of the server."""
    for name, value in WITHOUT_PAUSE.items():
        monkeypatch.setenv(name, value)
    address = f"http://user:password@127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return mlflow.MlflowClient(address)


@pytest.mark.parametrize("seconds", [2, 5, 8, 30, 60, 90, 120, 600])
def test_tries_and_pauses_take_the_time_that_there_is(seconds: int):
    told = mlflow_retries.patience(seconds)
    retries, timeout = int(told[mlflow_retries.RETRIES]), int(told[mlflow_retries.TIMEOUT])
    retry = Retry(retries, backoff_factor=int(told[mlflow_retries.BACKOFF]))
    pauses = 0.0
    for _ in range(retries):
        retry = retry.increment("GET", "/")
        pauses += retry.get_backoff_time()
    assert seconds / 2 <= timeout * (retries + 1) + pauses <= seconds


@pytest.mark.parametrize("fault", ["reset", 503])
def test_a_retry_is_said_once(client: mlflow.MlflowClient, server: Server, fault: str | int):
    server.page(EXPERIMENT, ANSWER, fault, fault)
    said: list[str] = []
    with mlflow_retries.announce_retries(said.append):
        assert client.get_experiment("1").name == "one"
    assert said == [
        f"MLflow's server, http://127.0.0.1:{server.server_port}, does not answer; each "
        "request is retried for 7 s at most (main.tracker_timeout)"
    ]
    assert server.pages[EXPERIMENT].asked == 3


def test_a_server_that_goes_away_is_said_before_it_is_given_up(
    client: mlflow.MlflowClient, server: Server
):
    server.page(EXPERIMENT, ANSWER)
    said: list[str] = []
    with mlflow_retries.announce_retries(said.append):
        client.get_experiment("1")
        assert said == []
        server.socket.close()
        with pytest.raises(MlflowException, match="Max retries exceeded"):
            client.get_experiment("1")
    assert len(said) == 1


def test_nothing_else_is_logged_meanwhile(
    client: mlflow.MlflowClient, server: Server, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    log = logging.getLogger("urllib3.connectionpool")
    level, filters = log.level, [*log.filters]
    server.page(EXPERIMENT, ANSWER, 503)
    with mlflow_retries.announce_retries(lambda _: None):
        client.get_experiment("1")
    assert [record for record in caplog.records if record.name == log.name] == []
    assert (log.level, log.filters) == (level, filters)
