"""The steps as parts of somebody else's pipeline: plain ``mlflow.run`` calls, ``:latest`` each."""

import contextlib
import json
from collections.abc import Iterator

import mlflow
import pytest

from tests.support.paths import POKEMON, ROOT
from tests.support.steps import Steps
from tests.support.wandb_server import WandbServer

CHAIN = f"""
import mlflow

def run(step, **parameters):
    address = {str(ROOT)!r} + "/" + step
    mlflow.run(uri=address, entry_point="main", parameters=parameters, env_manager="local")

run("1-Download_data", file_url={POKEMON.as_uri()!r}, artifact_name="pokemon.csv",
    artifact_type="raw_data", artifact_description="The data as it was downloaded")
run("2-ETL", input_artifact="pokemon.csv:latest", artifact_name="clean_data.csv",
    artifact_type="processed_data", artifact_description="It's clean, and \\"checked\\"")
run("3-Split_dataset", input_artifact="clean_data.csv:latest",
    train_artifact_name="train_data.csv", test_artifact_name="test_data.csv",
    artifact_type="split_data", artifact_description="One part", test_size=0.25)
run("4-Training_model", train_artifact="train_data.csv:latest",
    test_artifact="test_data.csv:latest")
"""
TYPES = {
    "pokemon.csv:v0": "raw_data",
    "clean_data.csv:v0": "processed_data",
    "train_data.csv:v0": "split_data",
    "test_data.csv:v0": "split_data",
    "preprocessor:v0": "preprocessor",
    "model:v0": "model",
}
ASKED = """
import json
from pipeline.tracking import Tracker
tracker = Tracker.from_environment()
found = {name: tracker.find(name) for name in json.loads(%r)}
print(json.dumps({name: [one.type, dict(one.metadata)] for name, one in found.items()}))
"""


@pytest.fixture(params=["trackio", "wandb"])
def variables(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What the environment says of the tracker."""
    with contextlib.ExitStack() as stack:
        server = request.param == "wandb" and stack.enter_context(WandbServer())
        yield {"PIPELINE_TRACKER": request.param, **(server.environment() if server else {})}


def test_a_plain_chain_of_mlflow_runs(place: Steps, variables: dict[str, str]):
    """With the parameters that are fixed, and no others."""
    (place.home / "tmp").mkdir()  # MLflow leaves a folder there for each of its runs
    own = {"WANDB_PROJECT": "theirs", "TMPDIR": str(place.home / "tmp"), **variables}
    done = place.python("-c", CHAIN, **own)
    assert done.status == 0, done.err

    names = str([*TYPES]).replace("'", '"')
    told = place.python("-c", ASKED % names, PYTHONPATH=str(ROOT), **own)
    assert told.status == 0, told.err
    found = json.loads(told.out.splitlines()[-1])
    assert {name: kind for name, (kind, _) in found.items()} == TYPES
    metadata = {name: about for name, (_, about) in found.items()}
    assert metadata["clean_data.csv:v0"]["rows_after"] == 414  # no fill: gaps in type_2 are dropped
    assert metadata["test_data.csv:v0"]["test_size"] == 0.25
    assert metadata["model:v0"]["target"] == "legendary"

    client = mlflow.MlflowClient(f"sqlite:///{place.home / 'mlflow.db'}")  # theirs, not ours
    (version,) = client.search_model_versions("name = 'pokemon-legendary'")
    run = client.get_run(version.run_id)
    assert run.data.metrics["f1"] == metadata["model:v0"]["f1"]
    assert run.info.status == "FINISHED"
    assert version.tags["tracker.artifact"].startswith("model:v0 ")
    assert not (place.state / "mlflow.db").exists()
