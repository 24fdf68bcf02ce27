"""Many trials: recorded as one, safe from each other's failures, and tried again."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from pipeline.config import job
from pipeline.orchestration.execution import processes
from pipeline.sweeps import record as sweep_record
from pipeline.sweeps import summary as sweep_summary
from pipeline.sweeps.record import TrialRecord
from pipeline.tracking.mlflow import store as mlflow_store
from tests.support.runs import SMALL, Checkout
from tests.support.sweeps import Swept

TRIALS = "model.params.n_estimators=2,3,4,0"  # the last one can't be fitted


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Four trials, two at a time; one of them fails."""
    checkout = Checkout(tmp_path_factory.mktemp("sweeps") / "home")
    words = ("-m", "hydra/launcher=joblib", TRIALS, "search.refit=true")
    return Swept(checkout, checkout.run(*words))


def test_trials_are_recorded_below_one_run(swept: Swept):
    (parent,) = swept.sweeps()
    assert parent.info.status == "FINISHED"
    trials = {int(run.data.tags["pipeline.trial"]): run for run in swept.below(parent)}
    states = [trials[number].info.status for number in range(4)]
    assert states == ["FINISHED", "FINISHED", "FINISHED", "FAILED"]
    for number, run in trials.items():
        assert run.data.params["model.params.n_estimators"] == "2340"[number]
        assert run.info.end_time > run.info.start_time
    for number in range(3):
        metrics = trials[number].data.metrics
        assert metrics["objective"] == metrics["val_f1"] != metrics["f1"]
    assert "n_estimators" in trials[3].data.tags["pipeline.error"]
    steps = [step.info.run_name for run in trials.values() for step in swept.below(run)]
    once = ["1-Download_data", "2-ETL", "3-Split_dataset"]
    assert sorted(steps) == [*once, *["4-Training_model"] * 4]


def test_the_failed_trial_ends_neither_the_others_nor_in_silence(swept: Swept):
    assert swept.done.status == 1
    assert "error: 1 of 4 trials failed; trial 3: 4-Training_model failed" in swept.done.err
    assert "Traceback" not in swept.done.err + swept.done.out


def test_trials_are_one_group_in_the_tracker(swept: Swept):
    (parent,) = swept.sweeps()
    with closing(sqlite3.connect(swept.checkout.state / "trackio" / "pokemon.db")) as store:
        configs = [json.loads(row[0]) for row in store.execute("select config from configs")]
    groups = {config["_Group"] for config in configs}
    assert groups == {parent.data.tags["pipeline.sweep"], "dev"}  # that of the best one, refitted
    assert "sweep" in {config["job_type"] for config in configs}


def test_the_sweep_is_summed_up(swept: Swept):
    (parent,) = swept.sweeps()
    folder = swept.checkout.state / "runs" / parent.data.tags["pipeline.sweep"] / "sweep"
    figures = ("optimization_history", "parallel_coordinates")
    assert {path.stem for path in folder.glob("*.png")} >= set(figures)
    shown = (folder / "sweep.html").read_text(encoding="utf-8")
    assert "3 finished, 1 without a result" in shown
    assert "python main.py model.params.n_estimators=" in shown
    table = pd.read_csv(folder / "trials.csv")
    assert list(table.state) == ["finished"] * 3 + ["failed"]
    best = table.loc[table.val_f1.idxmax()]
    assert parent.data.metrics["best"] == pytest.approx(best.val_f1)
    assert "n_estimators  val_f1  seconds" in swept.done.out
    assert "python main.py model.params.n_estimators=" in swept.done.out
    client = mlflow.MlflowClient(f"sqlite:///{swept.checkout.state / 'mlflow.db'}")
    logged = {Path(f.path).name for f in client.list_artifacts(parent.info.run_id, "sweep")}
    assert logged >= {"sweep.html", "trials.csv", *(f"{name}.png" for name in figures)}


def test_the_best_trial_is_trained_on_all_rows_and_is_the_candidate(swept: Swept):
    """It is a run of its own; the trials, fitted on a part of the rows, are no candidates."""
    (parent,) = swept.sweeps()
    told = swept.done.summary
    assert told["run_id"] == parent.data.tags["pipeline.refit"]
    trials = {int(run.data.tags["pipeline.trial"]): run for run in swept.below(parent)}
    values = {number: run.data.metrics.get("objective", -1) for number, run in trials.items()}
    best = max(values, key=values.get)
    parameters = told["config"]["model"]
    assert str(parameters["params"]["n_estimators"]) == "2340"[best]
    assert parameters["validation"] == 0
    states = [step["status"] for step in told["steps"].values()]
    assert states[:4] == ["cached", "cached", "cached", "ran"]
    client = mlflow.MlflowClient(f"sqlite:///{swept.checkout.state / 'mlflow.db'}")
    found = client.search_model_versions("name = 'pokemon-legendary'")
    candidate = client.get_model_version_by_alias("pokemon-legendary", "candidate")
    assert candidate.version == max(version.version for version in found)
    assert candidate.tags["pipeline.run_id"] == told["run_id"]
    assert float(candidate.tags["metric.val_f1"]) == values[best]


def test_the_best_ones_command_trains_it_on_all_rows():
    words = ["+model.params.max_depth=3", "model.validation=0.3", "+model.cv=5", "~report.previous"]
    words += ["main.project_name='a b'", "model='random_forest'", "main.experiment_name='null'"]
    one = TrialRecord(0, "FINISHED", "run", {}, 0.5, overrides=words)
    assert sweep_summary.command(one) == (
        "python main.py +model.params.max_depth=3 '~report.previous' "
        """'main.project_name='"'"'a b'"'"'' model=random_forest """
        """'main.experiment_name='"'"'null'"'"''"""
    )


def test_a_finished_trial_whose_value_is_lost_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    experiment, client = mlflow_store.connect("dev"), mlflow.MlflowClient()
    parent = client.create_run(experiment).info.run_id
    logged = [
        {"f1": 0.5, "objective": 0.5},
        {"f1": 0.5},
        {"bytes": 7},
    ]  # the last one trained nothing
    runs = []
    for number, metrics in enumerate(logged):
        tags = job.Trial("one", parent, number, ["a=1"], done=False).tags()
        run = client.create_run(experiment, tags=tags).info.run_id
        for name, value in metrics.items():
            client.log_metric(run, name, value)
        client.set_terminated(run)
        runs.append(run)
    assert sweep_record.resume(processes.Marker("one"), parent) == [0, 2]
    assert [client.get_run(run).info.status for run in runs] == ["FINISHED", "KILLED", "FINISHED"]
    mlflow.set_tracking_uri(before)


def test_out_of_time(swept: Swept):
    done = swept.checkout.run(
        "-m", "model.params.random_state=7", "main.timeout=0.1,600", "main.backend=local", SMALL
    )
    assert "1 of 2 trials failed; trial 0: 4-Training_model ran out of time" in done.err
    states = [run.info.status for run in swept.below(swept.sweeps()[-1])]
    assert states == ["FAILED", "FINISHED"]


def test_same_command_tries_the_failed_trials_again(swept: Swept):
    before = len(swept.sweeps())
    done = swept.checkout.run("-m", "hydra/launcher=basic", TRIALS, "search.refit=true")
    assert "is resumed: 3 of its trials are finished" in done.out
    assert len(swept.sweeps()) == before
    assert len(swept.below(swept.sweeps()[0])) == 5  # the failed one twice, the others once
