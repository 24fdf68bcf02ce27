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


def test_the_list_of_runs_shows_settings_data_model_and_figures(
    first: Finished, client: mlflow.MlflowClient
):
    parent = client.get_run(first.summary["mlflow_run"])
    assert parent.data.metrics == pytest.approx(first.summary["metrics"])
    shown = {"model.target": "legendary", "model.params.n_estimators": "5"}
    assert parent.data.params.items() >= {**shown, "estimator": "RandomForestClassifier"}.items()
    outputs = first.outputs()
    used = {data.dataset.name: data for data in parent.inputs.dataset_inputs}
    assert [*used] == ["pokemon", "train_data.csv", "test_data.csv"]
    made = [outputs[name]["digest"] for name in ("pokemon.csv", "train_data.csv", "test_data.csv")]
    assert [data.dataset.digest for data in used.values()] == [digest[:12] for digest in made]
    columns = json.loads(used["test_data.csv"].dataset.schema)["mlflow_colspec"]
    assert {"name": "legendary", "type": "boolean", "required": True} in columns
    child = client.get_run(first.summary["steps"]["4-Training_model"]["mlflow_run"])
    models = [model.model_id for model in child.outputs.model_outputs]
    assert [model.model_id for model in parent.outputs.model_outputs] == models
    images = {Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "images")}
    assert {name.partition("+")[0] for name in images} >= {"confusion_matrix", "roc_curve"}
    about = parent.data.tags["mlflow.note.content"]
    assert f"runs/{child.info.run_id})" in about
    assert "[pokemon-legendary version 1](#/models/pokemon-legendary/versions/1)" in about


def test_the_training_run_holds_parameters_metrics_figures_tags_and_model(
    first: Finished, client: mlflow.MlflowClient
):
    run = client.get_run(first.summary["steps"]["4-Training_model"]["mlflow_run"])
    assert run.data.params["estimator.n_estimators"] == "5"
    assert run.data.metrics["f1"] == pytest.approx(first.summary["metrics"]["f1"])
    assert run.data.tags["developer"]
    digest = first.outputs()["train_data.csv"]["digest"]
    used = [data.dataset for data in run.inputs.dataset_inputs]
    assert [data.name for data in used] == ["train_data.csv", "test_data.csv"]
    assert json.loads(used[0].source)["digest"] == digest
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
    assert "RandomForestClassifier predicting legendary" in found.description
    assert "legendary" in client.get_registered_model(found.name).description
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
logs = {id: s.get_logs("pokemon", run_id=id) for id in runs}
names = ["pokemon.csv", "clean_data.csv", "train_data.csv", "test_data.csv"]
names += ["model", "preprocessor"]
made = {name: s.get_artifact_manifest("pokemon", name, "v0") for name in names}
print(json.dumps([runs, logs, made]))
"""
    out = subprocess.check_output(
        [sys.executable, "-c", asked],
        env=environment(checkout.home, TRACKIO_DIR=str(checkout.state / "trackio")),
        text=True,
    )
    runs, logs, artifacts = json.loads(out.splitlines()[-1])
    ids = {config["job_type"]: id for id, config in runs.items()}
    assert sorted(ids) == [*STEPS, "pipeline"]
    whole, logged = runs[ids["pipeline"]], logs[ids["pipeline"]]
    assert whole["model"] == first.summary["config"]["model"]
    assert whole["mlflow_run_id"] == first.summary["mlflow_run"]
    assert first.summary["metrics"].items() <= logged[0].items()
    ends = {"status": "finished"} | {f"steps/{step}": "ran" for step in STEPS}
    ends |= {f"runs/{step}": ids[step] for step in STEPS}
    assert ends.items() <= whole["summary"].items()
    training = runs[ids["4-Training_model"]]["summary"]
    assert training == pytest.approx(first.summary["metrics"])  # no charts of one bar
    assert not any("f1" in log for log in logs[ids["4-Training_model"]])
    assert {config["_Group"] for config in runs.values()} == {"dev"}
    assert {config["pipeline_run_id"] for config in runs.values()} == {first.summary["run_id"]}
    types = {name: record["type"] for name, record in artifacts.items()}
    assert types == {
        "pokemon.csv": "raw_data",
        "clean_data.csv": "processed_data",
        "train_data.csv": "split_data",
        "test_data.csv": "split_data",
        "model": "model",
        "preprocessor": "preprocessor",
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
