"""What a colleague has finished, on the same MLflow server and tracker, is not run again."""

import contextlib
import sqlite3
from pathlib import Path

import mlflow
import pytest

from tests.support import servers
from tests.support.runs import SMALL, Checkout


def shares(tmp_path: Path, store: str, *overrides: str) -> None:
    """Two checkouts with a server between them: what one has run, the other hands on."""
    quick = (SMALL, *overrides)
    one, two = Checkout(tmp_path / "one"), Checkout(tmp_path / "two")
    home = tmp_path / "server"
    home.mkdir()
    with (
        servers.mlflow_server(home, store) as mlflow_url,
        servers.trackio_server(home) as trackio_url,
    ):
        shared = {"MLFLOW_TRACKING_URI": mlflow_url, "TRACKIO_SERVER_URL": trackio_url}
        first = one.run(*quick, **shared)
        assert first.status == 0, first.err
        ran = [state for state in first.states if state != "skipped"]
        assert ran == ["ran"] * len(ran)
        told = two.run("explain", *quick, **shared)
        assert told.out.count(": cached  ") == len(ran), told.out + told.err
        second = two.run(*quick, **shared)
        assert second.status == 0, second.err
        assert second.states[: len(ran)] == ["cached"] * len(ran)
        assert second.outputs() == first.outputs()
        assert second.summary["metrics"] == first.summary["metrics"]
        changed = two.run("main.steps=[1,2,3]", "split.test_size=0.3", **shared)
        assert changed.states[:3] == ["cached", "cached", "ran"]

        client = mlflow.MlflowClient(mlflow_url)
        experiment = client.get_experiment_by_name("dev").experiment_id
        runs = client.search_runs([experiment])
        assert {run.info.status for run in runs} == {"FINISHED"}
        everything = " ".join(str(run.to_dictionary()) for run in runs)
        assert servers.TOKEN not in everything

        with contextlib.closing(sqlite3.connect(home / "trackio" / "pokemon.db")) as database:
            database.execute("DELETE FROM artifacts WHERE name = 'train_data.csv'")
            database.commit()
        told = two.run("explain", *quick, **shared)
        assert "2-ETL: cached" in told.out
        assert "3-Split_dataset: train_data.csv:v0 is gone from" in told.out
        assert "3-Split_dataset: would run" in told.out

        local = two.run("main.steps=[1]", MLFLOW_TRACKING_URI=mlflow_url)  # another tracker
        assert local.states[0] == "ran"
    assert not list(one.home.glob("**/mlflow.db"))


def test_through_a_server_on_sqlite(tmp_path: Path):
    shares(tmp_path, f"sqlite:///{tmp_path / 'server.db'}")


@pytest.mark.skipif(
    servers.postgres_programs() is None,
    reason="PostgreSQL's server is not installed (Debian: apt-get install postgresql)",
)
def test_through_a_server_on_postgresql(tmp_path: Path):
    with servers.postgres() as store:
        shares(tmp_path, store, "main.steps=[1,2,3]")
