"""Models are compared by numbers that the test data has no part in, the same ones each time."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from pipeline.core.errors import PipelineError
from pipeline.core.metrics import METRICS, measured_as
from pipeline.core.results import StepResult
from pipeline.science import encoding, evaluation, training, validation
from pipeline.science.validation import Scheme


def table(rows: int = 60) -> tuple[pd.DataFrame, pd.Series]:
    draw = np.random.default_rng(0)
    features = pd.DataFrame({"a": draw.normal(size=rows), "b": draw.normal(size=rows)})
    return features, (features.a + 0.5 * features.b > 0).rename("target")


def train(how: Scheme, estimator: object = None) -> tuple:
    features, target = table()
    chosen = LogisticRegression() if estimator is None else estimator
    model = encoding.build(chosen, features, [])
    return validation.train(training.fit, model, features, target, how)


def test_nothing_is_measured_unless_wanted():
    _, results, folds = train(Scheme(0, None, 1))
    assert results == {}
    assert folds.empty


@given(share=st.floats(0.05, 0.9), seed=st.integers(0, 1000))
def test_held_out_rows_are_not_fitted_on(share: float, seed: int):
    features, target = table()
    how = Scheme(share, None, seed)
    fitted, left, known, hidden = validation.hold_out(LogisticRegression(), features, target, how)
    assert sorted([*fitted.index, *left.index]) == list(features.index)
    assert (list(known.index), list(hidden.index)) == (list(fitted.index), list(left.index))
    again = validation.hold_out(LogisticRegression(), features, target, how)
    assert list(again[1].index) == list(left.index)


@pytest.mark.parametrize("how", [Scheme(0.25, None, 3), Scheme(0, 4, 3)])
def test_same_seed_and_data_same_numbers(how: Scheme):
    forest = RandomForestClassifier(5, random_state=0)
    first, second = train(how, forest), train(how, forest)
    assert first[1] == second[1]
    pd.testing.assert_frame_equal(first[2], second[2])
    other = train(Scheme(how.share, how.folds, 4), forest)
    assert first[1] != other[1]


def test_folds_have_mean_and_spread():
    _, results, folds = train(Scheme(0.5, 4, 1))
    assert len(folds) == 4
    assert results["cv_f1_mean"] == pytest.approx(folds.f1.mean())
    assert results["cv_f1_std"] == pytest.approx(np.std(folds.f1))
    assert not any(name.startswith("val_") for name in results)


@pytest.mark.parametrize("method", ["random", "time"])
def test_a_learning_curve_ends_where_all_rows_are_fitted_on(method: str):
    """As cross-validation measures it; before that on fewer rows, by time the latest ones."""
    features, target = table(120)
    key = features["a"] if method == "time" else None
    how, seen = Scheme(0, 4, 1, method, key), []

    def fit(model, some: pd.DataFrame, goal: pd.Series):
        seen.append(some)
        return training.fit(model, some, goal)

    model = encoding.build(LogisticRegression(), features, [])
    curve = validation.learning_curve(fit, model, features, target.astype(int), how)
    folds = validation.cross_validate(training.fit, model, features, target.astype(int), how)
    points = curve["points"]
    assert curve["metric"] == "f1"
    assert points[-1]["validation"] == pytest.approx(folds.f1.mean())
    assert [point["rows"] for point in points] == sorted(point["rows"] for point in points)
    assert len(points) == len(validation.CURVE_SHARES)
    if method == "time":
        assert all(some["a"].is_monotonic_increasing for some in seen)
        assert {some["a"].max() for some in seen[-5:]} == {seen[-1]["a"].max()}


def test_more_folds_than_rows_of_a_class():
    with pytest.raises(PipelineError, match=r"model\.cv=40"):
        train(Scheme(0, 40, 1))


def test_too_small_a_share():
    features, target = table(8)
    with pytest.raises(PipelineError, match=r"model\.validation=0\.01"):
        validation.hold_out(LogisticRegression(), features, target, Scheme(0.01, None, 1))


def test_metrics_that_may_be_asked_for_are_those_that_are_measured():
    features, target = table()
    classes = encoding.build(LogisticRegression(), features, []).fit(features, target)
    numbers = encoding.build(RandomForestRegressor(2), features, []).fit(features, features.a)
    measured = evaluation.metrics(evaluation.predict(classes, features, target))
    measured |= evaluation.metrics(evaluation.predict(numbers, features, features.a))
    assert set(measured) == set(METRICS)


@pytest.mark.parametrize(
    ("metrics", "value"),
    [
        ({"f1": 0.1}, 0.1),
        ({"val_f1": 0.2, "f1": 0.1}, 0.2),
        ({"cv_f1_mean": 0.3, "cv_f1_std": 0.0, "f1": 0.1}, 0.3),
        ({}, None),
    ],
)
def test_a_trial_is_judged_without_the_test_data_where_it_can_be(metrics: dict, value: float):
    assert StepResult("4", "ran", metrics=metrics).metric(None) == value


@pytest.mark.parametrize("other", [{"val_f1": 0.2}, {"cv_f1_mean": 0.3}])
def test_a_trial_is_never_judged_by_the_test_data_instead(other: dict):
    """A class that the held-out rows lack leaves some metrics undefined there."""
    result = StepResult("4", "ran", metrics={"roc_auc": 0.9, "f1": 0.1, **other})
    with pytest.raises(PipelineError, match="roc_auc is undefined on the training rows"):
        result.metric("roc_auc")
    assert measured_as("roc_auc", result.metrics) is None


def test_a_metric_that_is_no_number():
    result = StepResult("4", "ran", metrics={"val_r2": math.nan, "r2": 0.1})
    with pytest.raises(PipelineError, match="val_r2 is not a number"):
        result.metric("r2")


@pytest.mark.parametrize("method", ["group", "time"])
@pytest.mark.parametrize("folds", [None, 4])
def test_rows_are_measured_on_as_the_test_part_was_drawn(method: str, folds: int | None) -> None:
    """No group on both sides, and nothing that comes before what was fitted on."""
    key = pd.Series(np.random.default_rng(0).permutation(np.repeat(np.arange(20), 5)), name="key")
    features = pd.DataFrame({"key": key.to_numpy(float)}, index=np.arange(100) + 7)
    target = pd.Series(np.arange(100) % 2, index=features.index)
    seen = []

    def fit(model, some: pd.DataFrame, goal: pd.Series):
        seen.append(some)
        return model.fit(some, goal)

    how = validation.Scheme(0.25, folds, 1, method, key)
    _, told, _ = validation.train(fit, DecisionTreeClassifier(), features, target, how)
    assert told
    for fitted in seen[: folds or 1]:
        left = features.drop(index=fitted.index)
        if method == "group":
            assert not set(fitted["key"]) & set(left["key"])
        elif len(fitted):
            after = left[left["key"] > fitted["key"].max()]
            assert len(after) or left["key"].max() == fitted["key"].max()
            assert fitted["key"].max() < 19
