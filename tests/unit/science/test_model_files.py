"""Models as files: equal models are equal bytes, and what is read predicts the same."""

import io

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.science import encoding, estimators, model_files, training

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


def table(rows: int = 40) -> pd.DataFrame:
    """Features of each kind: a number, a word, a truth value, and gaps."""
    number = pd.Series(np.linspace(0, 1, rows)).mask(lambda x: x.index % 7 == 3)
    word = pd.Series(["a", "b", "12.npy", '"__id__": 7'] * (rows // 4)).mask(number.isna())
    return pd.DataFrame({"x": number, "word": word, "truth": [True, False] * (rows // 2)})


def fitted(path: str):
    """A small model of that class."""
    known = estimators.make_estimator(path, {}, ["sklearn"]).get_params()
    params = {key: value for key, value in SMALL.items() if key in known}
    if "MLP" in path or "Forest" in path or "Gradient" in path:
        params["random_state"] = 0
    features = table()
    target = pd.Series(["yes", "no", "no", "yes"] * 10, name="target")
    estimator = estimators.make_estimator(path, params, ["sklearn"])
    return training.fit(encoding.build(estimator, features, []), features, target)


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


@settings(max_examples=15)
@given(st.lists(st.text(max_size=8), min_size=2, max_size=6, unique=True), st.integers(0, 3))
def test_any_words_survive(categories: list[str], seed: int) -> None:
    """Categories are kept in the file as text; none of them may be taken for something else."""
    features = pd.DataFrame({"word": categories * 2, "x": np.arange(len(categories) * 2.0)})
    target = pd.Series(np.arange(len(features)) % 2)
    estimator = estimators.make_estimator(
        "sklearn.tree.DecisionTreeClassifier", {"random_state": seed}, ["sklearn"]
    )
    model = training.fit(encoding.build(estimator, features, []), features, target)
    data = model_files.dumps(model)
    loaded = skops.io.loads(data, trusted=model_files.types(data)[0])
    assert (loaded.predict(features) == model.predict(features)).all()


def test_types_of_other_packages_are_not_trusted(tmp_path) -> None:
    class Stranger:
        pass

    path = model_files.save({"model": Stranger()}, tmp_path / "model.skops")
    with pytest.raises(PipelineError, match=r"not trusted: .*Stranger"):
        model_files.load(path)


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


def test_an_earlier_model_brings_fewer_files_of_cleaning_code(tmp_path) -> None:
    """Those made before numbers and dates had a file of their own."""
    (tmp_path / "tables.py").write_text("ANSWER = 42\n")
    (tmp_path / "cleaning.py").write_text("from .tables import ANSWER\n")
    assert model_files.load_cleaning(tmp_path).ANSWER == 42
    (tmp_path / "cleaning.py").unlink()
    assert model_files.load_cleaning(tmp_path).__name__ == "pipeline.science.data.cleaning"
