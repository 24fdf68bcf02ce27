"""What MLflow's list of runs shows of a whole pipeline."""

import json

import mlflow
import pandas as pd
import pytest

from pipeline.tracking.interface import Artifact
from pipeline.tracking.mlflow import datasets, parent_run

CONFIG = {
    "main": {"dataset": "iris", "state_dir": ".pipeline"},
    "data": {"file_url": "https://user:pass@host/x.csv", "timeout": 30},
    "etl": {"fill": {"width": 0, "a (b)": 1}},
    "model": {
        "target": "species",
        "cv": None,
        "params": {"max_depth": None, "random_state": 0, "final": {"_target_": "x.Y", "alpha": 1}},
    },
}


def test_main_settings_and_those_that_were_given_are_shown():
    given = ["model=ridge", "etl.fill.width=0", "+data.timeout=30", "main.state_dir=/tmp/x"]
    assert parent_run.settings(CONFIG, given) == {
        "main.dataset": "iris",
        "model.target": "species",
        "model.params.random_state": "0",
        "model.params.final._target_": "x.Y",
        "model.params.final.alpha": "1",
        "model": "ridge",
        "etl.fill.width": "0",
        "data.timeout": "30",
    }


@pytest.mark.parametrize("override", ["etl.fill.a (b)=1", "data.file_url=x", "a..b=1", "~none"])
def test_what_mlflow_can_not_name_or_must_not_show_is_left_out(override: str):
    assert parent_run.settings(CONFIG, [override]) == parent_run.settings(CONFIG, [])


def test_a_data_set_has_a_name_a_digest_a_schema_and_a_source():
    table = pd.DataFrame({"x": [1, 2], "word": ["a", None], "when": [object(), 3]})
    artifact = Artifact("train.csv", "v3", "0123456789abcdef" * 4)
    found = datasets.of_artifact(artifact, "train", table[["x", "word"]], "trackio local iris")
    assert (found.dataset.name, found.dataset.digest) == ("train.csv", "0123456789ab")
    assert found.dataset.source_type == "trackio"
    assert json.loads(found.dataset.source)["artifact"] == "train.csv:v3"
    columns = json.loads(found.dataset.schema)["mlflow_colspec"]
    assert [(column["name"], column["required"]) for column in columns] == [
        ("x", True),
        ("word", False),
    ]
    assert datasets.of_artifact(artifact, "train", table, "wandb ours").dataset.schema is None


@pytest.mark.parametrize(
    ("address", "kind"), [("https://host/x.csv", "http"), ("file:///x.csv", "local")]
)
def test_mlflow_can_load_what_was_fetched(address: str, kind: str):
    found = datasets.of_address("iris", "0" * 64, address, "raw")
    assert found.dataset.source_type == kind
    assert mlflow.data.get_source(found).to_dict() in ({"url": address}, {"uri": address})
