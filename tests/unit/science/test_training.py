"""Training: which estimators are allowed, and preprocessing that fits any features."""

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import PipelineError
from pipeline.science import encoding, estimators, model_files, training
from pipeline.science.data.tables import write_table

FOREST = "sklearn.ensemble.RandomForestClassifier"


def make(path: str, **params):
    return estimators.make_estimator(path, params, ["sklearn"])


def trained(path: str, features: pd.DataFrame, target, categorical=(), **params):
    """A fitted pipeline."""
    target = pd.Series(target, name="target")
    return training.fit(
        encoding.build(make(path, **params), features, categorical), features, target
    )


def refusal(call, *arguments, **options) -> str:
    """What a call that has to fail says."""
    with pytest.raises(PipelineError) as caught:
        call(*arguments, **options)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("os.system", "not from an allowed package"),
        ("subprocess.Popen", "not from an allowed package"),
        ("RandomForestClassifier", "not from an allowed package"),
        ("sklearnother.Model", "not from an allowed package"),
        (".sklearn.svm.SVC", "not from an allowed package"),
        ("sklearn.utils.Bunch", "is not an estimator"),
        ("sklearn.utils.check_array", "is not an estimator"),
        ("sklearn.ensemble.NoSuchForest", "is not an estimator"),
        ("sklearn.no_such_module.Model", "is not an estimator"),
        ("sklearn..svm.SVC", "is not an estimator"),
        ("sklearn.", "is not an estimator"),
        ("sklearn.base.ClassifierMixin", "is not an estimator"),
        ("sklearn.preprocessing.StandardScaler", "neither classes nor numbers"),
        ("sklearn.cluster.KMeans", "neither classes nor numbers"),
        ("sklearn.ensemble.VotingClassifier", "can't be made"),
    ],
)
def test_only_allowed_estimators(path: str, told: str) -> None:
    message = refusal(make, path)
    assert told in message
    assert repr(path) in message


def test_an_unknown_parameter_is_named_with_the_nearest() -> None:
    message = refusal(make, FOREST, n_estimator=5)
    assert "no parameter 'n_estimator' (did you mean 'n_estimators'?)" in message
    assert "max_depth" in message
    features = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0]})
    message = refusal(trained, FOREST, features, [0, 1, 0, 1], n_estimators=-1)
    assert "n_estimators" in message
    assert "model.params" in message


def test_parameters_may_be_estimators_and_functions_of_a_list() -> None:
    tree = {"_target_": "sklearn.tree.DecisionTreeClassifier", "max_depth": 3}
    bag = make("sklearn.ensemble.BaggingClassifier", estimator=tree)
    assert (type(bag.estimator).__name__, bag.estimator.max_depth) == ("DecisionTreeClassifier", 3)
    ridge = {"_target_": "sklearn.linear_model.Ridge"}
    log = {"_target_": "numpy.log1p"}
    target = make("sklearn.compose.TransformedTargetRegressor", regressor=ridge, func=log)
    assert target.func is np.log1p
    steps = [["scale", {"_target_": "sklearn.preprocessing.StandardScaler"}], ["tree", tree]]
    features = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0]})
    model = trained("sklearn.pipeline.Pipeline", features, [0, 0, 1, 1], steps=steps)
    assert model.predict(features).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ({"_target_": "os.system"}, "_target_='os.system' is not from an allowed package"),
        ({"_target_": "numpy.load"}, "_target_='numpy.load' is not an allowed function"),
        ({"_target_": "numpy.log", "x": 1}, "takes no parameters"),
        ({"_target_": "sklearn.datasets.load_files"}, "is not an estimator"),
        ({"_target_": ["sklearn"]}, "is not from an allowed package"),
        ({"_target_": "sklearn.svm.SVC", "kernel": {"_target_": "os.system"}}, "kernel: _target_"),
        (
            {"_target_": "sklearn.feature_extraction.text.CountVectorizer", "input": "filename"},
            "input='filename' would read files",
        ),
        (
            {"_target_": "sklearn.pipeline.Pipeline", "steps": [], "memory": "/tmp/x"},
            "memory='/tmp/x' would write a cache",
        ),
    ],
)
def test_parameters_that_reach_further_are_refused(steps: dict, told: str) -> None:
    """Whatever ``model.allowed`` names."""
    path, allowed = "sklearn.pipeline.Pipeline", ["sklearn", "numpy"]
    params = {"steps": [["first", steps]]}
    assert told in refusal(estimators.make_estimator, path, params, allowed)


@pytest.mark.parametrize(
    ("path", "target", "told"),
    [
        (FOREST, ["a", "a", "a", "a"], "has only one value: a"),
        (FOREST, [0.5, 1.25, 2.75, 3.1], "is continuous"),
        ("sklearn.linear_model.LinearRegression", ["a", "b", "a", "b"], "is not a number"),
    ],
)
def test_targets_that_do_not_fit_the_estimator(path: str, target: list, told: str) -> None:
    message = refusal(trained, path, pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0]}), target)
    assert told in message
    assert "model.target='target'" in message


def test_targets_and_features_are_told_apart() -> None:
    table = pd.DataFrame({"number": [1, 2], "x": [3, 4], "legendary": [True, False]})
    features, target = training.separate(table, "legendary", ["number", "absent"])
    assert list(features) == ["x"]
    assert features["x"].dtype == "float64"
    assert target.tolist() == [True, False]

    message = refusal(training.separate, table, "legendry", [])
    assert "'legendry'" in message
    assert "did you mean 'legendary'?" in message
    gaps = table.assign(legendary=[True, None])
    assert "1 missing values" in refusal(training.separate, gaps, "legendary", [])
    assert "the table has no feature" in refusal(
        training.separate, table, "x", ["number", "legendary"]
    )
    endless = table.assign(x=[1.0, np.inf])
    assert "['x'] hold infinite values" in refusal(training.separate, endless, "legendary", [])
    assert "'x' has infinite values" in refusal(training.separate, endless, "x", [])
    assert "'speed'" in refusal(encoding.build, make(FOREST), features, ["speed"])


def parts(folder, train: pd.DataFrame, test: pd.DataFrame, drop: list[str] = ()):
    """Both parts, read again from files."""
    files = write_table(train, folder / "train.csv"), write_table(test, folder / "test.csv")
    return training.read_parts(*files, drop)


def test_a_column_has_the_type_it_has_in_training(tmp_path) -> None:
    train = pd.DataFrame({"code": ["1", "x"], "n": [1, 2]})
    _, test = parts(tmp_path, train, pd.DataFrame({"code": ["1", "2"], "n": [None, 2.5]}))
    assert test["code"].tolist() == ["1", "2"]

    message = refusal(parts, tmp_path, train, pd.DataFrame({"code": ["x"], "n": ["oak"]}))
    assert "'n' holds numbers in the training data, and 'oak' in the test data" in message
    parts(tmp_path, train, pd.DataFrame({"code": ["x"], "n": ["oak"]}), drop=["n"])
    assert "lacks 'n'" in refusal(parts, tmp_path, train, pd.DataFrame({"code": ["x"]}))


WORDS = pd.DataFrame({"word": ["a", "b", None, "a"] * 5})
TRUTHS = pd.DataFrame({"truth": [True, False] * 10})
GAPPED_TRUTHS = pd.DataFrame({"truth": [True, False, None, True] * 5}, dtype=object)
NUMBERS = pd.DataFrame({"x": [1.0, 2.0, np.nan, 4.0] * 5})
EMPTY = pd.DataFrame({"nothing": [np.nan] * 20, "x": [1.0, 2.0] * 10})


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
@pytest.mark.parametrize(
    ("path", "params"),
    [
        (FOREST, {"n_estimators": 5}),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 5}),
        ("sklearn.naive_bayes.GaussianNB", {}),
        ("sklearn.svm.LinearSVC", {}),
        ("sklearn.linear_model.LogisticRegression", {}),
    ],
)
@pytest.mark.parametrize(
    "features",
    [WORDS, TRUTHS, GAPPED_TRUTHS, NUMBERS, EMPTY, pd.concat([WORDS, TRUTHS, NUMBERS], axis=1)],
)
def test_any_features_fit_any_estimator(path: str, params: dict, features: pd.DataFrame) -> None:
    """Gaps, unknown categories and columns of one kind only."""
    model = trained(path, features, [0, 1] * 10, **params)
    assert len(model.predict(features)) == 20
    strange = features.copy()
    for column in strange:
        strange[column] = strange[column].astype(object)
        strange.loc[0, column] = "never seen" if column == "word" else None
    numbers = dict.fromkeys(features.select_dtypes("number"), "float64")
    before = features.drop(index=0)
    after = strange.astype(numbers).drop(index=0)
    assert len(model.predict(strange.astype(numbers))) == 20
    assert (model.predict(before) == model.predict(after)).all()


def test_numbers_that_are_categories() -> None:
    features = pd.DataFrame({"generation": [1.0, 2.0, 3.0] * 4, "x": np.arange(12.0)})
    model = trained("sklearn.linear_model.LinearRegression", features, range(12), ["generation"])
    names = [*model[:-1].get_feature_names_out()]
    assert names == ["x", "generation_1.0", "generation_2.0", "generation_3.0"]
    assert model.predict(features.assign(generation=9.0)).shape == (12,)


def test_the_seed_decides() -> None:
    features = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=[*"abc"])
    first, again, other = (
        model_files.dumps(trained(FOREST, features, [0, 1] * 30, n_estimators=5, random_state=seed))
        for seed in (1, 1, 2)
    )
    assert first == again != other
