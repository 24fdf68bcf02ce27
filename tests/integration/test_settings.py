"""The whole pipeline with other data, targets, models and stores, and by ``mlflow run``."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from tests.support import servers
from tests.support.paths import POKEMON, ROOT
from tests.support.runs import SMALL, Checkout, Finished, environment

IRIS = ROOT / "data" / "iris.csv"


@pytest.fixture(scope="module")
def checkout(
    finished: tuple[Checkout, Finished], tmp_path_factory: pytest.TempPathFactory
) -> Checkout:
    """A copy of the place of the first run."""
    return finished[0].copy(tmp_path_factory.mktemp("settings") / "a home")


def test_a_store_may_be_named_relative_to_the_current_folder(tmp_path: Path):
    checkout = Checkout(tmp_path / "home")
    done = checkout.run("main.steps=[1,2]", TRACKIO_DIR="my store")
    assert done.states[:2] == ["ran", "ran"], done.err
    stored, _ = done.outputs()["clean_data.csv"]["stored"]
    assert (checkout.home / "my store" / stored).is_file()


def test_a_step_that_nobody_made_is_named(tmp_path: Path):
    done = Checkout(tmp_path).run("main.steps=[2-ETL]")
    assert done.status == 1
    assert "2-ETL needs pokemon.csv" in done.err
    assert "main.steps" in done.err


@pytest.mark.parametrize(
    ("overrides", "metric", "target"),
    [
        (["data=iris", f"data.file_url={IRIS.as_uri()}", SMALL], "f1", "species"),
        (["data=pokemon_total"], "rmse", "total"),
        (
            ["data=csv", "model.target=defense", "model=random_forest_regressor", SMALL,
             "etl.schema=[{column: hp, dtype: int, min: 1}]"],
            "r2",
            "defense",
        ),
        (
            ["data=csv", "model.target=[defense,sp_def]", "model=hist_gradient_boosting",
             "model.params.max_iter=20"],
            "r2.sp_def",
            "defense",
        ),
    ],
)  # fmt: skip
def test_other_data_and_targets_run_by_configuration(
    checkout: Checkout, overrides: list[str], metric: str, target: str
):
    done = checkout.run(*overrides, f"main.experiment_name={target}")
    assert done.status == 0, done.err
    assert done.summary["metrics"][metric] > 0.3
    assert ("f1" in done.summary["metrics"]) == (metric == "f1")
    parameters = done.folder / "config" / "config.yaml"
    assert target in parameters.read_text()


def test_every_model_in_conf_trains(checkout: Checkout):
    for model in ("logistic_regression", "xgboost"):  # and tests/unit/science/test_estimators.py
        done = checkout.run(f"model={model}")
        assert done.states == ["cached", "cached", "cached", "ran"], done.err
        assert done.summary["metrics"]["roc_auc"] > 0.8


def test_the_embedded_snapshot_stands_in_for_the_default_address_only(tmp_path: Path):
    """With nothing to be reached, a proxy that refuses all stands for a network that is down."""
    url = next(
        line.split()[-1]
        for line in (ROOT / "conf/data/pokemon.yaml").read_text().splitlines()
        if "file_url" in line
    )
    offline = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    options = ("main.steps=[1]", "data.retries=0")
    checkout = Checkout(tmp_path)
    done = checkout.run(*options, f"data.file_url={url}", **offline)
    assert done.status == 0, done.err
    assert done.out.count("embedded snapshot") == 1
    again = checkout.run(*options, f"data.file_url={url}", **offline)
    assert again.states[0] == "cached"
    assert "can't be reached; using what was fetched before" in again.out
    other = checkout.run(*options, "data.file_url=http://127.0.0.1:9/pokemon.csv", **offline)
    assert other.status == 1
    assert "can't be reached" in other.err


def test_mlflow_run_does_the_same_job(tmp_path: Path):
    """Options reach Hydra whole, and state goes where it always does."""
    state = tmp_path / "the state"
    options = (
        f"main.env_manager=local 'main.state_dir={state}' main.steps=[1-Download_data] "
        f"data.artifact_description='a, b = {{c}} \"d\"' data.file_url={POKEMON.as_uri()}"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager=local",
         f"--storage-dir={tmp_path}", "-P", f"hydra_options={options}"],
        cwd=tmp_path,
        env=environment(tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db"),
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(next(state.glob("runs/*/summary.json")).read_text())
    assert summary["steps"]["1-Download_data"]["status"] == "ran"
    config = next(state.glob("runs/*/config/config.yaml")).read_text()
    assert 'artifact_description: a, b = {c} "d"' in config


def test_a_new_store_of_mlflows_is_used_shown_and_told_of_reuse(checkout: Checkout):
    """A relative address means the folder where the command was typed, in every step."""
    database = checkout.home / "taxi.db"
    done = checkout.run(SMALL, MLFLOW_TRACKING_URI="sqlite:///taxi.db")
    assert done.status == 0, done.err
    assert f"mlflow ui --backend-store-uri 'sqlite:///{database}'" in done.out
    assert [*ROOT.rglob("taxi.db")] == []
    runs = mlflow.MlflowClient(f"sqlite:///{database}").search_runs(["1"])
    assert {run.info.run_name for run in runs} >= {"1-Download_data", "4-Training_model"}
    with servers.mlflow_server(checkout.home, f"sqlite:///{database}") as address:
        again = (SMALL, f"main.mlflow_uri={address}")
        reused = checkout.run(*again)
        assert reused.states == ["cached"] * 4
        last = mlflow.MlflowClient(address).search_runs(["1"], max_results=1)[0]
        assert last.data.tags["pipeline.run_id"] == reused.summary["run_id"]
        assert checkout.run(*again).summary["mlflow_run"] is None  # once is enough


def test_long_parameters_arrive_whole(checkout: Checkout):
    rules = ", ".join(f"{{column: hp, dtype: int, min: 1, max: {1000 + i}}}" for i in range(200))
    done = checkout.run("main.steps=[etl]", f"etl.schema=[{rules}]")
    assert done.status == 0, done.err
    passed = next((checkout.state / "parameters").glob("*.json"))
    assert len(json.loads(passed.read_text())) == 200
