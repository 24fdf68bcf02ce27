"""Nested estimators: each one shipped trains, is kept and read again; none reaches further."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.core.errors import PipelineError
from pipeline.science import estimators, model_files, tasks, training, validation
from tests.support.paths import ROOT

FILES = {path.stem: path for path in (ROOT / "conf/model").glob("*.yaml")}
NUMBERS_ALONE = {"elastic_net", "log_target", "random_forest_regressor"}
CLASSES_ALONE = {"gradient_boosting", "logistic_regression", "random_forest"}
DRAW = np.random.default_rng(0)
TABLE = pd.DataFrame({"a": DRAW.normal(size=120), "b": DRAW.normal(size=120), "w": ["x", "y"] * 60})
TARGETS = {
    "two": np.where(TABLE.a + TABLE.b > 0.2, "yes", "no"),
    "three": np.select([TABLE.a > 0.4, TABLE.b > 0], ["p", "q"], "r"),
    "numbers": np.exp(TABLE.a) + TABLE.b.abs(),
}


FEW = {"n_estimators": 10, "max_iter": 20}  # rounds, which are enough for the small table


def trained(name: str, target: str) -> tuple[training.Trained, list[str]]:
    """A model of conf/model on a small table, and the packages that it may come from."""
    told = yaml.safe_load(FILES[name].read_text())["model"]
    task = tasks.REGRESSION if target == "numbers" else tasks.CLASSIFICATION
    allowed = told.get("allowed", ["sklearn"])
    table = TABLE.assign(y=TARGETS[target])
    path = tasks.estimator_path(told["estimator"], task)
    made = estimators.make_estimator(path, told["params"], allowed, task)
    tasks.check_fits(made, task, table["y"], path)
    for key, value in made.get_params().items() if name != "mlp" else ():
        if (few := FEW.get(key.rpartition("__")[2])) and value:
            made.set_params(**{key: min(few, value)})
    parts, scheme = (table.iloc[:90], table.iloc[90:]), validation.Scheme(None, None, 3)
    asked = {"target": "y", "drop": [], "categorical": []}
    return training.train(*parts, made, scheme=scheme, **asked), allowed


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", sorted(FILES))
def test_each_shipped_model_trains_and_is_read_again(name: str, target: str, tmp_path: Path):
    if name in (CLASSES_ALONE if target == "numbers" else NUMBERS_ALONE):
        with pytest.raises(PipelineError, match="use model=auto or model="):
            trained(name, target)
        return
    told, allowed = trained(name, target)
    file = model_files.save(told.model, tmp_path / "model.skops")
    again = model_files.load(file, allowed).predict(told.features)
    assert (np.asarray(again) == np.asarray(told.model.predict(told.features))).all()
    if name != "dummy":
        assert told.metrics["r2" if target == "numbers" else "accuracy"] > 0.3
    if name in ("xgboost", "lightgbm", "stacking"):
        assert model_files.dumps(trained(name, target)[0].model) == file.read_bytes()


def test_each_setting_of_a_shipped_model_is_explained():
    for name in set(FILES) - CLASSES_ALONE - {"auto", "random_forest_regressor"}:
        model, _, _ = FILES[name].read_text().partition("\nsearch:")
        lines = model[model.index("\nmodel:") :].splitlines()[2:]
        for line in lines:
            of_task = line.strip().startswith(("classification:", "regression:"))
            of_task = of_task or line.strip().startswith(("estimator: sk", "_target_: sk"))
            assert of_task or "#" in line or line.endswith(":"), line


def refused(path: object, params: dict, allowed: list[str] = ("sklearn",)) -> str:
    with pytest.raises(PipelineError) as caught:
        estimators.make_estimator(path, params, [*allowed])
    assert caught.value.remedy
    return caught.value.what


TREE = {"_target_": "sklearn.tree.DecisionTreeClassifier"}
FORTH = "sklearn.ensemble.StackingClassifier"


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        ({"_target_": "os.system"}, "_target_='os.system' is not from an allowed package"),
        ({"_target_": "lightgbm.LGBMClassifier"}, "is not from an allowed package"),
        ({**TREE, "max_dept": 3}, "has no parameter 'max_dept' (did you mean 'max_depth'?)"),
        ({"_target_": FORTH, "estimators": {"x": {"_target_": "os.system"}}}, "'os.system'"),
        (
            {"_target_": "sklearn.pipeline.Pipeline", "steps": {"x": TREE}, "memory": "/tmp/x"},
            "would write a cache",
        ),
        ({"_target_": "sklearn.ensemble.BaggingClassifier", "estimator__memory": 1}, "parameter"),
    ],
)
def test_each_level_is_checked(inner: dict, said: str):
    for path in ("sklearn.ensemble.VotingClassifier", FORTH):
        assert said in refused(path, {"estimators": {"tree": TREE, "inner": inner}})
    assert said in refused("sklearn.calibration.CalibratedClassifierCV", {"estimator": inner})


@pytest.mark.parametrize(
    "name", ["forcedsplits_filename", "machines", "input_model", "config", "machine_list_file"]
)
def test_files_and_machines_of_other_packages_are_refused(name: str):
    told = refused("lightgbm.LGBMClassifier", {name: "/etc/passwd"}, ["sklearn", "lightgbm"])
    assert f"{name}='/etc/passwd' would read or write files, or ask other machines" in told


GRID = "sklearn.model_selection.GridSearchCV"
SEARCH = "sklearn.model_selection.RandomizedSearchCV"
BOOSTED = {"_target_": "lightgbm.LGBMClassifier"}


@pytest.mark.parametrize(
    ("path", "params", "said"),
    [
        ("lightgbm.LGBMClassifier", {"max_bin": "255 fs=/etc/passwd"}, "more than one parameter"),
        ("lightgbm.LGBMClassifier", {"a": [[1, "b fs=/etc/passwd"]]}, "more than one parameter"),
        ("lightgbm.LGBMClassifier", {"max_bin=255 fs": "/etc/passwd"}, "more than one parameter"),
        (GRID, {"estimator": BOOSTED, "param_grid": {"fs": ["/etc/passwd"]}}, "would read or"),
        (GRID, {"estimator": BOOSTED, "param_grid": [{"a": ["b fs=/etc/passwd"]}]}, "more than"),
        (SEARCH, {"estimator": BOOSTED, "param_distributions": {"a__machines": ["b"]}}, "machines"),
    ],
)
def test_no_parameter_is_smuggled_in(path: str, params: dict, said: str):
    """Within another one's name or value, or as a choice of a search."""
    assert said in refused(path, params, ["sklearn", "lightgbm"])


@pytest.mark.parametrize(
    ("path", "params", "said"),
    [
        ("sklearn.ensemble.VotingClassifier", {"estimators": {"a": "sklearn.svm.SVC"}}, ""),
        ("sklearn.calibration.CalibratedClassifierCV", {"estimator": "sklearn.svm.SVC"}, ""),
        ("sklearn.compose.TransformedTargetRegressor", {"regressor": "Ridge"}, ""),
        (
            "sklearn.ensemble.VotingClassifier",
            {"estimators": {"a": {"_target_": "sklearn.linear_model.Ridge"}}},
            "should be a classifier",
        ),
        (
            "sklearn.compose.TransformedTargetRegressor",
            {"func": {"_target_": "numpy.log1p"}},
            "inverse_func",
        ),
    ],
)
def test_what_can_not_be_combined_is_said(path: str, params: dict, said: str):
    """Where it is made, or where it is fitted; in a few lines."""
    table = TABLE.assign(y=TARGETS["numbers" if "Regressor" in path else "two"])
    with pytest.raises(PipelineError, match=f"can't be (made|fitted).*{said}"):
        training.train(
            table.iloc[:90],
            table.iloc[90:],
            estimators.make_estimator(path, params, ["sklearn"]),
            target="y",
            drop=[],
            categorical=[],
            scheme=validation.Scheme(None, None, 3),
        )


def test_a_package_that_is_not_installed_is_named():
    told = refused("nosuchpackage.Model", {}, ["sklearn", "nosuchpackage"])
    assert "needs the package nosuchpackage, which is not installed" in told


def test_a_value_for_each_task():
    told = {"a": {"classification": 1, "regression": [2]}, "b": {"classification": 3}, "c": None}
    assert tasks.of_task(told, "classification") == {"a": 1, "b": 3, "c": None}
    assert tasks.of_task(told, "regression") == {"a": [2], "c": None}
    assert tasks.of_task(told, "auto") == told
    with pytest.raises(PipelineError, match="has none for a regression"):
        tasks.estimator_path({"classification": "sklearn.svm.SVC"}, "regression")
