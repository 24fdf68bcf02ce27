"""Models as files: equal models are equal bytes, and what is read predicts the same."""

import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier

from pipeline.core.errors import PipelineError
from pipeline.models import scoring
from pipeline.science import model_files, training
from pipeline.tracking import mlflow_model
from tests.support.paths import ROOT
from tests.support.runs import Finished
from tests.support.steps import TINY, Steps

ESTIMATORS = [
    "sklearn.ensemble.RandomForestClassifier",
    "sklearn.ensemble.GradientBoostingClassifier",
    "sklearn.ensemble.HistGradientBoostingClassifier",
    "sklearn.linear_model.LogisticRegression",
    "sklearn.neighbors.KNeighborsClassifier",
    "sklearn.svm.SVC",
    "sklearn.neural_network.MLPClassifier",
]
SMALL = {"n_estimators": 3, "max_iter": 20}

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


def table(rows: int = 40) -> pd.DataFrame:
    """Features of each kind: a number, a word, a truth value, and gaps."""
    number = pd.Series(np.linspace(0, 1, rows)).mask(lambda x: x.index % 7 == 3)
    word = pd.Series(["a", "b", "12.npy", '"__id__": 7'] * (rows // 4)).mask(number.isna())
    return pd.DataFrame({"x": number, "word": word, "truth": [True, False] * (rows // 2)})


def fitted(path: str):
    """A small model of that class."""
    known = training.make_estimator(path, {}, ["sklearn"]).get_params()
    params = {key: value for key, value in SMALL.items() if key in known}
    if "MLP" in path or "Forest" in path or "Gradient" in path:
        params["random_state"] = 0
    features = table()
    target = pd.Series(["yes", "no", "no", "yes"] * 10, name="target")
    estimator = training.make_estimator(path, params, ["sklearn"])
    return training.fit(training.build(estimator, features, []), features, target)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("path", ESTIMATORS)
def test_the_same_model_is_the_same_bytes_and_predicts_the_same(path: str, tmp_path) -> None:
    model = fitted(path)
    file = model_files.save(model, tmp_path / "model.skops")
    assert model_files.save(model, tmp_path / "again.skops").read_bytes() == file.read_bytes()
    assert model_files.dumps(fitted(path)) == file.read_bytes()

    loaded = model_files.load(file)
    assert model_files.dumps(loaded) == file.read_bytes()
    assert (loaded.predict(table()) == model.predict(table())).all()
    if hasattr(model, "predict_proba"):
        assert (loaded.predict_proba(table()) == model.predict_proba(table())).all()


def test_other_processes_make_the_same_bytes() -> None:
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


@settings(max_examples=15)
@given(st.lists(st.text(max_size=8), min_size=2, max_size=6, unique=True), st.integers(0, 3))
def test_any_words_survive(categories: list[str], seed: int) -> None:
    """Categories are kept in the file as text; none of them may be taken for something else."""
    features = pd.DataFrame({"word": categories * 2, "x": np.arange(len(categories) * 2.0)})
    target = pd.Series(np.arange(len(features)) % 2)
    estimator = training.make_estimator(
        "sklearn.tree.DecisionTreeClassifier", {"random_state": seed}, ["sklearn"]
    )
    model = training.fit(training.build(estimator, features, []), features, target)
    data = model_files.dumps(model)
    loaded = skops.io.loads(data, trusted=model_files.types(data)[0])
    assert (loaded.predict(features) == model.predict(features)).all()


def test_the_model_artifact_is_the_model(chain: tuple[Steps, dict[str, Finished]]) -> None:
    """The preprocessor is an artifact of its own, and prepares what the model predicts from."""
    place, ended = chain
    outputs = {output["name"]: output for output in ended["4-Training_model"].report["outputs"]}
    assert {output["type"] for output in outputs.values()} == {"model"}
    model, preprocessor = (
        model_files.load(place.file(outputs[name])) for name in ("model", "preprocessor")
    )
    features = pd.DataFrame({"type_1": ["Fire", "Water"], "sp_atk": [20.0, 30.0]})
    prepared = preprocessor.transform(features)
    assert (model[-1].predict(prepared) == model.predict(features)).all()


def test_types_of_other_packages_are_not_trusted(tmp_path) -> None:
    class Stranger:
        pass

    path = model_files.save({"model": Stranger()}, tmp_path / "model.skops")
    with pytest.raises(PipelineError, match=r"not trusted: .*Stranger"):
        model_files.load(path)


STRANGE = """
from sklearn.tree import DecisionTreeClassifier

class Notes(dict):
    pass

class Tree(DecisionTreeClassifier):
    def __init__(self, max_depth=None, random_state=None, colour="", **more):
        super().__init__(max_depth=max_depth, random_state=random_state)
        self.colour = colour or more.get("color", "")

    def fit(self, X, y):
        self.notes_ = b"some bytes"
        return super().fit(X, y)
"""


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of somebody else's with an estimator: the folder that it is installed in."""
    folder = tmp_path / "packages"
    (folder / "strange").mkdir(parents=True)
    (folder / "strange" / "__init__.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    return folder


def install(folder: Path) -> None:
    """Let it be known as a distribution."""
    told = folder / "strange_trees-1.5.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-trees\nVersion: 1.5\n")
    (told / "top_level.txt").write_text("strange\n")


def test_a_model_of_a_package_that_is_allowed(strange: Path, place: Steps) -> None:
    """It is trained, logged with its package among its requirements, and read again."""
    path, there = "strange.Tree", {"PYTHONPATH": str(strange)}
    assert place.put(TINY, "clean_data.csv").status == 0
    given = {"train_artifact": "clean_data.csv:v0", "test_artifact": "clean_data.csv:v0"}
    given |= {"estimator": path, "params": {"max_depth": 3, "color": "green"}}
    given |= {"target": "Legendary", "drop": ["#", "Name"]}

    bare = place.step("4-Training_model", there, **given, allowed=["sklearn", "strange"])
    assert bare.status == 1
    assert "the fitted model needs strange, which no installed package brings" in bare.err

    install(strange)
    ended = place.step("4-Training_model", there, **given, allowed=["sklearn", "strange"])
    assert ended.status == 0, ended.err
    (model,) = (output for output in ended.report["outputs"] if output["name"] == "model")
    loaded = model_files.load(place.file(model), ["strange"])
    assert type(loaded[-1]).__module__ == "strange"
    assert loaded[-1].notes_ == b"some bytes"
    (needs,) = place.home.glob("state/mlflow/artifacts/**/requirements.txt")
    assert "strange-trees==1.5" in needs.read_text().splitlines()
    with pytest.raises(PipelineError, match=r"not trusted: strange.Tree"):
        model_files.load(place.file(model))
    assert scoring.allowed() == {"sklearn"}


def test_a_model_with_types_that_nobody_allowed_is_not_logged(strange: Path, tmp_path) -> None:
    words = table()[["x", "word"]]
    model = training.build(DecisionTreeClassifier(), words, []).fit(words, words.x > 0)
    model[-1].notes_ = importlib.import_module("strange").Notes()
    file = model_files.save(model, tmp_path / "model.skops")
    with pytest.raises(PipelineError, match=r"it holds strange.Notes, whose packages are not"):
        mlflow_model.log(model, file, words, tmp_path / "x.json", ["sklearn"])


def test_memory_that_was_used_before_leaves_no_trace() -> None:
    """Trees' nodes have unused bytes, in which scikit-learn leaves what it finds there."""
    nodes = np.full(3, 255, dtype="u1").repeat(16).view([("a", "<f8"), ("b", "u1"), ("", "V7")])
    padded = np.dtype({"names": ["a", "b"], "formats": ["<f8", "u1"], "itemsize": 16})
    clean = model_files.without_padding(npy(nodes.view(padded)))
    zeros = np.zeros(3, padded)
    for name in ("a", "b"):
        zeros[name] = nodes[name]
    assert clean == npy(zeros)
    assert model_files.without_padding(npy(np.arange(3))) == npy(np.arange(3))


def npy(array: np.ndarray) -> bytes:
    """An array as a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
