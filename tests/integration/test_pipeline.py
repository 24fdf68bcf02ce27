"""The whole pipeline through main.py: what it records, and what it hands on."""

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from tests.support.paths import POKEMON, ROOT
from tests.support.runs import SMALL, Checkout, Finished, environment

HEAVY = {"mlflow", "pandas", "numpy", "sklearn", "trackio", "wandb"}
STEPS = ["1-Download_data", "2-ETL", "3-Split_dataset", "4-Training_model"]


@pytest.fixture(scope="module")
def checkout(
    finished: tuple[Checkout, Finished], tmp_path_factory: pytest.TempPathFactory
) -> Checkout:
    """A copy of the place of the first run."""
    return finished[0].copy(tmp_path_factory.mktemp("pipeline") / "a home")


@pytest.fixture(scope="module")
def first(finished: tuple[Checkout, Finished]) -> Finished:
    """The first run in a new place."""
    return finished[1]


@pytest.fixture(scope="module")
def client(checkout: Checkout, first: Finished) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{checkout.state / 'mlflow.db'}")


def test_summary_names_exact_versions(first: Finished):
    summary = first.summary
    assert summary["status"] == "finished"
    assert list(summary["steps"]) == [*STEPS, "5-Report"]
    assert first.states == ["ran"] * 4
    outputs = first.outputs()
    assert outputs["pokemon.csv"]["digest"] == hashlib.sha256(POKEMON.read_bytes()).hexdigest()
    for before, after in itertools.pairwise(STEPS):
        made = {(o["name"], o["digest"]) for o in summary["steps"][before]["outputs"]}
        used = {(i["name"], i["digest"]) for i in summary["steps"][after]["inputs"]}
        assert used == made
    assert set(summary["metrics"]) >= {"accuracy", "precision", "recall", "f1", "roc_auc"}


def test_plain_lines_where_there_is_no_terminal(first: Finished):
    assert "1-Download_data: running" in first.out
    assert "train_data.csv:v0  test_data.csv:v0" in first.out
    assert "roc_auc" in first.out
    assert "make dashboard" in first.out
    assert "\x1b" not in first.out


def test_mlflow_has_a_parent_with_four_children(first: Finished, client: mlflow.MlflowClient):
    parent = client.get_run(first.summary["mlflow_run"])
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["pipeline.run_id"] == first.summary["run_id"]
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    assert parent.data.tags["mlflow.source.git.commit"] == commit
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    assert sorted(child.info.run_name for child in children) == STEPS
    assert {child.info.status for child in children} == {"FINISHED"}
    assert client.get_experiment(parent.info.experiment_id).name == "dev"


def test_the_training_run_holds_parameters_metrics_figures_tags_and_model(
    first: Finished, client: mlflow.MlflowClient
):
    run = client.get_run(first.summary["steps"]["4-Training_model"]["mlflow_run"])
    assert run.data.params["estimator.n_estimators"] == "5"
    assert run.data.metrics["f1"] == pytest.approx(first.summary["metrics"]["f1"])
    assert run.data.tags["developer"]
    digest = first.outputs()["train_data.csv"]["digest"]
    assert run.data.tags["data.train_data.csv"] == f"v0 {digest}"
    figures = {Path(file.path).name for file in client.list_artifacts(run.info.run_id, "figures")}
    assert figures == {
        "confusion_matrix.png",
        "feature_importance.png",
        "precision_recall_curve.png",
        "roc_curve.png",
    }
    models = client.search_logged_models([run.info.experiment_id])
    assert [model.source_run_id for model in models] == [run.info.run_id]


def test_the_model_is_a_version_in_the_registry(first: Finished, client: mlflow.MlflowClient):
    """With the run that made it, its data by version and digest, its metrics and its commit."""
    run = first.summary["steps"]["4-Training_model"]["mlflow_run"]
    (found,) = [
        version
        for version in client.search_model_versions("name = 'pokemon-legendary'")
        if version.run_id == run
    ]
    outputs = first.outputs()
    for role in ("train", "test"):
        part = outputs[f"{role}_data.csv"]
        told = f"{role}_data.csv:{part['version']} {part['digest']}"
        assert found.tags[f"data.{role}"] == told
    assert found.tags["pipeline.run_id"] == first.summary["run_id"]
    assert found.tags["git.commit"] == first.summary["git_commit"]
    assert float(found.tags["metric.f1"]) == first.summary["metrics"]["f1"]
    model = outputs["model"]
    assert found.tags["tracker.artifact"] == f"model:{model['version']} {model['digest']}"
    assert "candidate" in client.get_registered_model(found.name).aliases


def test_trackio_has_the_runs_and_their_lineage(checkout: Checkout, first: Finished):
    asked = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage as s
runs = {run.id: run.config for run in trackio.Api().runs("pokemon")}
names = ["pokemon.csv", "clean_data.csv", "train_data.csv", "test_data.csv"]
names += ["model", "preprocessor"]
print(json.dumps([runs, {name: s.get_artifact_manifest("pokemon", name, "v0") for name in names}]))
"""
    out = subprocess.check_output(
        [sys.executable, "-c", asked],
        env=environment(checkout.home, TRACKIO_DIR=str(checkout.state / "trackio")),
        text=True,
    )
    runs, artifacts = json.loads(out.splitlines()[-1])
    assert sorted(config["job_type"] for config in runs.values()) == STEPS
    assert {config["_Group"] for config in runs.values()} == {"dev"}
    assert {config["pipeline_run_id"] for config in runs.values()} == {first.summary["run_id"]}
    types = {name: record["type"] for name, record in artifacts.items()}
    assert types == {
        "pokemon.csv": "raw_data",
        "clean_data.csv": "processed_data",
        "train_data.csv": "split_data",
        "test_data.csv": "split_data",
        "model": "model",
        "preprocessor": "model",
    }
    counts = artifacts["clean_data.csv"]["metadata"]
    assert (counts["rows_before"], counts["rows_after"], counts["dropped"]) == (800, 800, {})


def test_nothing_is_left_outside_the_state_folder(checkout: Checkout, first: Finished):
    allowed = {"state", ".config", ".cache", ".mlflow", ".rustup"}
    assert {path.name for path in checkout.home.iterdir()} <= allowed


def test_a_second_run_has_nothing_to_do_and_imports_nothing_heavy(
    checkout: Checkout, first: Finished
):
    done = checkout.run(SMALL, PYTHONPROFILEIMPORTTIME="1")
    assert done.states == ["cached"] * 4
    assert done.outputs() == first.outputs()
    assert done.summary["metrics"] == first.summary["metrics"]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.err.splitlines()}
    assert not imported & HEAVY


def test_what_does_not_matter_does_not_run_a_step_again(checkout: Checkout, first: Finished):
    done = checkout.run(SMALL, "main.experiment_name=other")
    assert done.states == ["cached"] * 4


def test_a_parameter_runs_its_step_and_those_after_it(checkout: Checkout, first: Finished):
    told = checkout.run("explain", SMALL, "split.test_size=0.3")
    assert "3-Split_dataset: parameter test_size: 0.2 -> 0.3" in told.out
    assert "4-Training_model: would run" in told.out
    assert told.folder is None  # an explanation is no run
    done = checkout.run(SMALL, "split.test_size=0.3", "main.experiment_name=prod")
    assert done.states == ["cached", "cached", "ran", "ran"]
    assert done.outputs()["train_data.csv"]["version"] == "v1"
    again = checkout.run(SMALL)
    assert again.states == ["cached"] * 4
    assert again.outputs() == first.outputs()


def test_an_explanation_of_the_same_number_written_otherwise(checkout: Checkout, first: Finished):
    told = checkout.run("explain", "model.params.n_estimators=5.0")
    assert told.status == 0, told.err
    assert '"n_estimators": 5.0' in told.out
    assert "4-Training_model: would run" in told.out


def test_an_explanation_of_some_steps_is_what_a_run_of_them_does(
    checkout: Checkout, first: Finished
):
    told = checkout.run("explain", SMALL, "main.steps=[4]", PYTHONPROFILEIMPORTTIME="1")
    assert "3-Split_dataset: it is not in main.steps" in told.out
    assert "3-Split_dataset: skipped  train_data.csv:v0  test_data.csv:v0" in told.out
    assert "4-Training_model: cached" in told.out
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.err.splitlines()}
    assert not imported & HEAVY
    assert checkout.run(SMALL, "main.steps=[4]").states == ["skipped"] * 3 + ["cached"]


def test_the_same_bytes_keep_later_steps_from_running(checkout: Checkout, first: Finished):
    """A new description reruns the cleaning, whose result is the same."""
    done = checkout.run(SMALL, "etl.artifact_description=the same table")
    assert done.states == ["cached", "ran", "cached", "cached"]
    assert done.outputs()["clean_data.csv"] == first.outputs()["clean_data.csv"]


def test_force_runs_all_and_changes_nothing(checkout: Checkout, first: Finished):
    """With MLflow's own backend, too."""
    done = checkout.run(SMALL, "main.backend=local", "main.force=true")
    assert done.states == ["ran"] * 4
    assert done.outputs() == first.outputs()
    assert done.summary["metrics"] == first.summary["metrics"]


def test_steps_that_are_not_chosen_hand_on_what_they_made(checkout: Checkout, first: Finished):
    done = checkout.run(SMALL, "main.steps=[split,train]", "split.random_state=7")
    assert done.states == ["skipped", "skipped", "ran", "ran"]
    used = done.summary["steps"]["3-Split_dataset"]["inputs"]
    assert used[0]["digest"] == first.outputs()["clean_data.csv"]["digest"]


def test_a_store_may_be_named_relative_to_the_current_folder(tmp_path: Path):
    checkout = Checkout(tmp_path / "home")
    done = checkout.run("main.steps=[1,2]", TRACKIO_DIR="my store")
    assert done.states[:2] == ["ran", "ran"], done.err
    (stored,) = done.outputs()["clean_data.csv"]["stored"]
    assert (checkout.home / "my store" / stored).is_file()


def test_a_step_that_nobody_made_is_named(tmp_path: Path):
    done = Checkout(tmp_path).run("main.steps=[2-ETL]")
    assert done.status == 1
    assert "2-ETL needs pokemon.csv" in done.err
    assert "main.steps" in done.err


@pytest.mark.parametrize(
    ("overrides", "metric", "target"),
    [
        (["data=iris", "data.file_url=" + (ROOT / "data/iris.csv").as_uri()], "f1", "species"),
        (["data=pokemon_total"], "rmse", "total"),
        (
            ["data=csv", "model.target=defense", "model=random_forest_regressor",
             "etl.schema=[{column: hp, dtype: int, min: 1}]"],
            "r2",
            "defense",
        ),
    ],
)  # fmt: skip
def test_other_data_and_targets_run_by_configuration(
    checkout: Checkout, overrides: list[str], metric: str, target: str
):
    done = checkout.run(SMALL, *overrides, f"main.experiment_name={target}")
    assert done.status == 0, done.err
    assert done.summary["metrics"][metric] > 0.3
    assert ("f1" in done.summary["metrics"]) == (metric == "f1")
    parameters = done.folder / "config" / "config.yaml"
    assert target in parameters.read_text()


def test_every_model_in_conf_trains(checkout: Checkout, first: Finished):
    for model in ("logistic_regression", "gradient_boosting"):
        done = checkout.run(f"model={model}")
        assert done.states == ["cached", "cached", "cached", "ran"], done.err
        assert done.summary["metrics"]["roc_auc"] > 0.8


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


def test_each_step_runs_alone_through_mlflow(checkout: Checkout, first: Finished):
    """As by ``mlflow run``, one after the other in one process."""
    env = environment(
        checkout.home,
        PIPELINE_STATE_DIR=str(checkout.state),
        MLFLOW_TRACKING_URI=f"sqlite:///{checkout.state / 'mlflow.db'}",
    )
    wanted = {
        "1-Download_data": {"file_url": POKEMON.as_uri(), "artifact_name": "pokemon.csv",
                            "artifact_type": "raw_data", "artifact_description": "a b"},
        "2-ETL": {"input_artifact": "pokemon.csv:latest", "artifact_name": "clean.csv",
                  "artifact_type": "processed_data", "artifact_description": "it's clean",
                  "fill": '{"type_2": "none"}'},
        "3-Split_dataset": {"input_artifact": "clean.csv:v0", "train_artifact_name": "a.csv",
                            "test_artifact_name": "b.csv", "artifact_type": "split_data",
                            "artifact_description": "x", "test_size": "0.2"},
        "4-Training_model": {"train_artifact": "a.csv:latest", "test_artifact": "b.csv:v0",
                             "params": '{"n_estimators": 3}'},
    }  # fmt: skip
    commands = [
        ["run", str(ROOT / step), "--env-manager=local",
         f"--storage-dir={checkout.state / 'mlflow-run'}",
         *(part for key, value in parameters.items() for part in ("-P", f"{key}={value}"))]
        for step, parameters in wanted.items()
    ]  # fmt: skip
    told = (
        "import json, sys; from mlflow.cli import cli\n"
        "for words in json.loads(sys.argv[1]): cli(words, standalone_mode=False)"
    )
    command = [sys.executable, "-c", told, json.dumps(commands)]
    done = subprocess.run(
        command, cwd=checkout.home, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" succeeded ===") == len(STEPS)


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


def test_long_parameters_arrive_whole(checkout: Checkout, first: Finished):
    rules = ", ".join(f"{{column: hp, dtype: int, min: 1, max: {1000 + i}}}" for i in range(200))
    done = checkout.run("main.steps=[etl]", f"etl.schema=[{rules}]")
    assert done.status == 0, done.err
    passed = next((checkout.state / "parameters").glob("*.json"))
    assert len(json.loads(passed.read_text())) == 200
