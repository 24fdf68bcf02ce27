"""Records of data sets that several runs log at the same time."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from mlflow.exceptions import MlflowException

from pipeline.tracking.mlflow import datasets, store

RUNS = 12


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return store.connect("dev")


def test_runs_that_log_a_new_data_set_at_the_same_time(experiment: str):
    client = store.client()
    runs = [client.create_run(experiment).info.run_id for _ in range(RUNS)]
    used = [datasets.of_address(f"table-{n}", f"{n:012}", "file:///a", "raw") for n in range(5)]
    barrier = Barrier(RUNS)

    def log(run: str) -> None:
        barrier.wait()
        datasets.log_inputs(client, run, used)

    with ThreadPoolExecutor(RUNS) as pool:
        list(pool.map(log, runs))
    for run in runs:
        inputs = client.get_run(run).inputs.dataset_inputs
        assert sorted(given.dataset.name for given in inputs) == [f"table-{n}" for n in range(5)]


def test_other_errors_are_raised(experiment: str):
    used = [datasets.of_address("table", "0" * 12, "file:///a", "raw")]
    with pytest.raises(MlflowException, match="not found"):
        datasets.log_inputs(store.client(), "0" * 32, used)
