"""4-Training_model as a program. How it fits models: tests/unit/science/test_training.py."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.metrics import LOSS
from pipeline.models import scoring
from pipeline.science import model_files
from tests.support import strange
from tests.support.paths import ROOT
from tests.support.runs import Finished
from tests.support.steps import Steps

STEP = "4-Training_model"

# Fits a model in a process of its own and prints the digest of its file.
FIT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from pipeline.science import model_files
model = RandomForestClassifier(5, random_state=0).fit(*load_iris(return_X_y=True, as_frame=True))
print(hashlib.sha256(model_files.dumps(model)).hexdigest())
"""


@contextlib.contextmanager
def store(place: Steps) -> Iterator[mlflow.MlflowClient]:
    """MLflow's client on a place's store."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{place.state / 'mlflow.db'}")
    try:
        yield mlflow.MlflowClient()
    finally:
        mlflow.set_tracking_uri(before)


def last_run(client: mlflow.MlflowClient) -> mlflow.entities.Run:
    """The run of the step that has just ended."""
    experiment = client.get_experiment_by_name("dev")
    return client.search_runs([experiment.experiment_id], order_by=["start_time desc"])[0]


def test_what_it_logs(chain: tuple[Steps, dict[str, Finished]]):
    """The preprocessor is an artifact of its own, and prepares what the model predicts from."""
    place, ended = chain
    done = ended[STEP]
    assert done.versions() == {"model": "v0", "preprocessor": "v0"}
    assert [used["name"] for used in done.report["inputs"]] == ["train_data.csv", "test_data.csv"]
    assert set(done.report["metrics"]) >= {"accuracy", "f1", "roc_auc", "average_precision"}
    metadata = place.artifacts()["model:v0"]
    assert metadata["estimator"] == "sklearn.ensemble.RandomForestClassifier"
    assert metadata["f1"] == done.report["metrics"]["f1"]

    outputs = done.outputs()
    assert {name: output["type"] for name, output in outputs.items()} == {
        "model": "model",
        "preprocessor": "preprocessor",
    }
    assert "f1" not in place.artifacts()["preprocessor:v0"]
    model, preprocessor = (
        model_files.load(place.file(outputs[name])) for name in ("model", "preprocessor")
    )
    features = pd.DataFrame({"type_1": ["Fire", "Water"], "sp_atk": [20.0, 30.0]})
    prepared = preprocessor.transform(features)
    assert (model[-1].predict(prepared) == model.predict(features)).all()


def test_what_mlflow_has_of_a_model(chain: tuple[Steps, dict[str, Finished]]):
    place, ended = chain
    with store(place) as client:
        experiment = client.get_experiment_by_name("dev")
        run = client.search_runs([experiment.experiment_id], order_by=["start_time"])[0]
        figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
        (alone,) = client.list_artifacts(run.info.run_id, "preprocessor")
        assert alone.path == "preprocessor/preprocessor.skops"
        found = client.search_logged_models([experiment.experiment_id])
        (info,) = [model for model in found if model.source_run_id == run.info.run_id]
        uri = info.model_uri
        fitted = mlflow.sklearn.load_model(uri)
        served = mlflow.pyfunc.load_model(uri)
        example = served.metadata.load_input_example()

    assert run.info.status == "FINISHED"
    assert run.data.metrics == ended[STEP].report["metrics"]
    assert run.data.params["target"] == "legendary"
    assert run.data.params["estimator.n_estimators"] == "100"
    assert run.data.params["estimator.random_state"] == "42"
    assert run.data.tags["developer"]
    sources = [json.loads(data.dataset.source) for data in run.inputs.dataset_inputs]
    assert [(source["artifact"], source["digest"]) for source in sources] == [
        (f"{used['name']}:{used['version']}", used["digest"])
        for used in ended[STEP].report["inputs"]
    ]
    names = ("feature_importance", "confusion_matrix", "roc_curve", "precision_recall_curve")
    assert figures == {f"figures/{name}.png" for name in names}

    assert served.metadata.signature.inputs.input_names() == ["type_1", "sp_atk"]
    assert served.metadata.signature.outputs is not None
    assert list(example) == ["type_1", "sp_atk"]
    unseen = pd.DataFrame({"type_1": ["Fire", "Ghost", None], "sp_atk": [20.0, None, 300.0]})
    assert (served.predict(unseen) == fitted.predict(unseen)).all()
    assert len(served.predict(example)) == len(example)

    (artifact,) = (o for o in ended[STEP].report["outputs"] if o["name"] == "model")
    (file,) = place.home.glob(f"state/mlflow/artifacts/**/{info.model_id}/**/model.skops")
    assert file.read_bytes() == place.file(artifact).read_bytes()
    files = [path for path in file.parent.rglob("*") if path.is_file()]
    written = sum(path.stat().st_size for path in files)
    assert file.stat().st_size < served.metadata.model_size_bytes <= written


def test_a_regression_with_gaps_and_unknown_words(chain: tuple[Steps, dict[str, Finished]]):
    """A table with a gap in each feature; what MLflow keeps of it predicts despite gaps."""
    place, _ = chain
    rows = [f"{n},{'abc'[n % 3]},{n % 2 == 0},{3 * n}" for n in range(40)]
    place.put("\n".join(["x,word,truth,y", ",b,True,1", "2,,False,6", *rows]), "train_gaps.csv")
    place.put("\n".join(["x,word,truth,y", "1,z,True,3", ",,,4", *rows[::5]]), "test_gaps.csv")
    ended = place.step(
        STEP,
        train_artifact="train_gaps.csv",
        test_artifact="test_gaps.csv:latest",
        target="y",
        drop="",
        estimator="sklearn.ensemble.HistGradientBoostingRegressor",
        params={"max_iter": 5, "random_state": 1},
        artifact_name="gaps_model",
        preprocessor_artifact_name="gaps_preprocessor",
    )
    assert ended.status == 0, ended.err
    assert set(ended.report["metrics"]) == {"rmse", "mae", "r2"}
    with store(place) as client:
        run = last_run(client)
        figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
        uri = f"runs:/{run.info.run_id}/model"
        served = mlflow.pyfunc.load_model(uri, dst_path=str(place.home))
    assert figures == {"figures/feature_importance.png", "figures/residuals.png"}
    assert run.data.params["params"] == "{'max_iter': 5, 'random_state': 1}"
    unseen = pd.DataFrame({"x": [np.nan], "word": ["never seen"], "truth": [True]})
    assert np.isfinite(served.predict(unseen)).all()


def test_each_round_is_logged_on_both_trackers_and_told(chain: tuple[Steps, dict[str, Finished]]):
    place, _ = chain
    boosting = "sklearn.ensemble.GradientBoostingClassifier"
    ended = place.step(STEP, estimator=boosting, params={"n_estimators": 6, "random_state": 1})
    assert ended.status == 0, ended.err
    told = [line for line in ended.out.splitlines() if line.startswith("round ")]
    with store(place) as client:
        run = last_run(client)
        history = client.get_metric_history(run.info.run_id, LOSS)
    assert [entry.step for entry in history] == [1, 2, 3, 4, 5, 6]
    assert told == [f"round {entry.step}: loss {entry.value:.4g}" for entry in history]
    query = "select step, metrics from metrics where run_id = ?"
    with contextlib.closing(sqlite3.connect(place.state / "trackio" / "pokemon.db")) as tracker:
        rows = tracker.execute(query, [ended.report["tracker_run"]]).fetchall()
    series = {step: json.loads(text)[LOSS] for step, text in rows if LOSS in json.loads(text)}
    assert series == {entry.step: entry.value for entry in history}
    assert LOSS not in ended.report["metrics"]  # it is no result


def test_each_fold_is_logged(chain: tuple[Steps, dict[str, Finished]]):
    place, _ = chain
    ended = place.step(STEP, cv="3", seed="7", learning_curve="true")
    assert ended.status == 0, ended.err
    (made,) = (one for one in ended.report["outputs"] if one["type"] == "model")
    told = place.artifacts()[f"{made['name']}:{made['version']}"]["learning_curve"]
    assert [point["rows"] for point in told["points"]] == [4, 10, 20, 30, 40]
    client = mlflow.MlflowClient(f"sqlite:///{place.state / 'mlflow.db'}")
    run = client.search_runs(["1"], "metrics.cv_f1_mean >= 0", max_results=1)[0]
    history = client.get_metric_history(run.info.run_id, "cv_f1")
    assert [entry.step for entry in history] == [0, 1, 2]
    told = ended.report["metrics"]
    assert told["cv_f1_mean"] == pytest.approx(np.mean([entry.value for entry in history]))
    assert run.data.metrics["cv_f1_std"] == pytest.approx(told["cv_f1_std"])


def test_other_processes_make_the_same_bytes():
    started = [
        subprocess.Popen(
            [sys.executable, "-c", FIT, ROOT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1")
    ]
    digests = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert len(digests) == 1


def test_a_model_of_a_package_that_is_allowed(
    chain: tuple[Steps, dict[str, Finished]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is trained, logged with its package among its requirements, and read again."""
    place, _ = chain
    strange.make(tmp_path, monkeypatch)
    strange.install(tmp_path)
    ended = place.step(
        STEP,
        {"PYTHONPATH": str(tmp_path)},
        estimator="strange.Tree",
        params={"max_depth": 3, "color": "green"},
        allowed=["sklearn", "strange"],
        name="strange",
        artifact_name="strange_model",
        preprocessor_artifact_name="strange_preprocessor",
    )
    assert ended.status == 0, ended.err
    file = place.file(ended.outputs()["strange_model"])
    loaded = model_files.load(file, ["strange"])
    assert type(loaded[-1]).__module__ == "strange"
    assert loaded[-1].notes_ == b"some bytes"
    with store(place) as client:
        (version,) = client.search_model_versions("name = 'strange'")
        needs = mlflow.pyfunc.get_model_dependencies(f"models:/strange/{version.version}")
    assert "strange-trees==1.5" in Path(needs).read_text().splitlines()
    with pytest.raises(PipelineError, match=r"not trusted: strange.Tree"):
        model_files.load(file)
    assert scoring.allowed_packages() == {
        "sklearn",
        "lightgbm",
        "xgboost",
    }  # of config.yaml and conf/model


def test_an_estimator_that_is_not_allowed(chain: tuple[Steps, dict[str, Finished]]):
    """Whatever else is refused: tests/unit/science/test_training.py."""
    place, _ = chain
    place.refused(STEP, "not from an allowed package", "model.allowed", estimator="os.system")
