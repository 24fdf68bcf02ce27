"""What stands beside a model's metrics is measured on the same rows, and says what matters."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor, VotingClassifier
from sklearn.svm import LinearSVC

from pipeline.science import evaluation, training, validation
from pipeline.science.inspection import insights

SCHEME = validation.Scheme(None, None, 42)
DRAW = np.random.default_rng(1)
TABLE = pd.DataFrame(DRAW.normal(size=(200, 2)), columns=["a", "b"]).assign(
    word=lambda t: np.where(t.b > 0, "up_1", "down"), noise=DRAW.normal(size=200)
)


def collect(estimator, target: pd.Series, table: pd.DataFrame = TABLE, positive=None) -> dict:
    """The insights on a model that is fitted on the first 150 rows."""
    table = table.assign(y=target)
    told = training.train(table[:150], table[150:], estimator, target="y", drop=[], categorical=[],
                          scheme=SCHEME, positive=positive)  # fmt: skip
    test = table[150:].drop(columns="y")
    columns = insights.rank_features(told.importances, test)
    return insights.collect(
        told.model, told.features, table.y[:150], test, told.predictions, columns, positive
    )


def test_plain_models_are_measured_as_the_model_is():
    beside = collect(RandomForestClassifier(20, random_state=0), TABLE.a > 0.3, positive=True)
    assert set(beside["dummy"]) == set(beside["linear"]) == set(beside["training"])
    assert beside["training"]["f1"] == 1
    assert beside["dummy"]["roc_auc"] == 0.5
    assert beside["dummy"]["f1"] < beside["linear"]["f1"]
    assert beside["permuted_score"] == "average_precision"
    assert beside["permuted"][0]["name"] == "a"
    assert beside["permuted"][0]["mean"] > 0.2
    (line,) = beside["dependence"][0]["lines"]
    assert (beside["dependence"][0]["name"], line["label"]) == ("a", "True")
    assert line["points"][0][1] < 0.2 < 0.8 < line["points"][-1][1]


def test_the_other_class_turns_the_curve():
    told = collect(RandomForestClassifier(20, random_state=0), TABLE.a > 0.3, positive=False)
    (line,) = told["dependence"][0]["lines"]
    assert line["label"] == "False"
    assert line["points"][0][1] > 0.8 > 0.2 > line["points"][-1][1]


def test_numbers_have_a_mean_and_a_line():
    told = collect(RandomForestRegressor(20, random_state=0), 3 * TABLE.a + TABLE.b)
    assert told["dummy"]["r2"] == pytest.approx(0, abs=0.1)
    assert told["linear"]["r2"] > 0.99
    assert told["permuted_score"] == "r2"
    assert [one["name"] for one in told["permuted"]][:1] == ["a"]


def test_a_model_that_only_names_classes_has_no_curve():
    kinds = pd.Series(np.select([TABLE.a > 0.5, TABLE.a < -0.5], ["x", "y"], "z"))
    told = collect(VotingClassifier([("one", LinearSVC())]), kinds)
    assert told["dependence"] == []
    assert told["permuted_score"] == "accuracy"


def test_a_model_without_preprocessing_has_no_linear_model_beside_it():
    features, target = TABLE[["a", "b"]], TABLE.a > 0
    model = RandomForestClassifier(5, random_state=0).fit(features, target)
    predictions = evaluation.predict(model, features, target, True)
    told = insights.plain_models(model, features, target, features, predictions, True)
    assert list(told) == ["dummy"]


def test_encoded_features_count_for_their_column():
    weights = pd.Series({"word_up_1": 0.5, "a": 0.3, "word_down": 0.1, "svd0": 9.0})
    assert insights.rank_features(weights, TABLE) == ["word", "a", "b", "noise"]


@pytest.mark.parametrize("gap", [np.nan, None])
def test_a_column_without_values_is_no_error(gap):
    table = TABLE.assign(empty=pd.Series([gap] * 200, dtype="float64"))
    told = collect(RandomForestClassifier(5, random_state=0), TABLE.a > 0, table, positive=True)
    assert told["permuted"]
