"""The kind of task, the model that fits it, and the positive class."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from pipeline.core.errors import PipelineError
from pipeline.science import evaluation, tasks

AMOUNTS = [*range(40)] * 5


def column(cells) -> pd.Series:
    return pd.Series(cells, name="y")


@pytest.mark.parametrize(
    ("cells", "task", "why"),
    [
        ([True, False] * 10, "classification", "2 different truth values"),
        (["a", "b", "c"] * 10, "classification", "3 different words"),
        (["01", "1"] * 10, "classification", "2 different words"),
        ([0, 1] * 10, "classification", "model.task=regression changes that"),
        ([0.0, 1.0] * 10, "classification", "2 different whole numbers"),
        (list(range(10)) * 5, "classification", "10 different whole numbers"),
        (AMOUNTS, "regression", "40 different numbers; model.task=classification"),
        (list(range(8)) * 2, "regression", "8 different numbers"),
        ([0.5, 1.25] * 10, "regression", "2 different numbers"),
        ([*([1.0, 2.0] * 10), 1.5], "regression", "3 different numbers"),
    ],
)
def test_the_kind_of_task_is_decided_and_said(cells, task: str, why: str) -> None:
    found, told = tasks.decide(column(cells))
    assert found == task
    assert told.startswith(f"y: {task} (")
    assert why in told


def test_the_kind_of_task_can_be_set() -> None:
    assert tasks.decide(column([0, 1] * 10), "regression")[0] == "regression"
    assert tasks.decide(column(AMOUNTS), "classification")[0] == "classification"


@pytest.mark.parametrize(
    ("cells", "task", "said"),
    [
        (["a", "b"] * 5, "regression", "model.target='y' is not a number ('a')"),
        ([True, False] * 5, "regression", "is not a number (True)"),
        ([0.5, 1.25] * 5, "classification", "model.target='y' is continuous"),
        ([f"w{n}" for n in range(20)], "auto", "has 20 classes in 20 rows"),
    ],
)
def test_targets_that_cannot_be_predicted_so(cells, task: str, said: str) -> None:
    with pytest.raises(PipelineError) as refused:
        tasks.decide(column(cells), task)
    assert said in refused.value.what
    assert "model.task=" in refused.value.remedy


@pytest.mark.parametrize(
    ("estimator", "cells", "said", "remedy"),
    [
        (
            RandomForestClassifier(),
            AMOUNTS,
            "40 different numbers, a regression",
            "random_forest_r",
        ),
        (RandomForestRegressor(), [True, False] * 9, "is not a number (True)", "model=auto or"),
        (RandomForestRegressor(), ["a", "b"] * 9, "is not a number ('a')", "model=random_forest"),
    ],
)
def test_a_model_that_does_not_fit_the_task(estimator, cells, said: str, remedy: str) -> None:
    target = column(cells)
    with pytest.raises(PipelineError) as refused:
        tasks.check_fits(estimator, tasks.decide(target)[0], target, "model.estimator=x")
    assert said in refused.value.what
    assert remedy in refused.value.remedy


def test_models_that_fit() -> None:
    for estimator, cells in (
        (RandomForestRegressor(), [0, 1, 2] * 9),  # numbers, too
        (RandomForestRegressor(), AMOUNTS),
        (RandomForestClassifier(), [0, 1] * 9),
    ):
        target = column(cells)
        tasks.check_fits(estimator, tasks.decide(target)[0], target, "model.estimator=x")


@pytest.mark.parametrize(
    ("cells", "wanted", "found"),
    [
        ([True, False, True], None, True),
        ([1, 0, 1, 1], None, 1),
        (["no", "yes", "yes"], None, "yes"),
        (["fraud", "legit", "legit"], None, "fraud"),
        (["legit", "fraud", "fraud"], None, "legit"),
        (["a", "b"], None, "b"),
        (["fraud", "legit", "legit"], "legit", "legit"),
        ([True, False], "false", False),
        ([1, 2, 2], "2", 2),
        (["a", "b", "c"], None, None),
    ],
)
def test_the_positive_class(cells, wanted: str | None, found) -> None:
    label, told = tasks.positive(column(cells), wanted)
    assert label == found
    assert type(label) is type(found)
    assert told.startswith(f"y: the positive class is {found}") if found is not None else not told


def test_a_positive_class_that_is_none() -> None:
    with pytest.raises(PipelineError) as refused:
        tasks.positive(column(["a", "b"]), "x")
    assert "model.positive='x' is none of two classes of 'y': a, b" in refused.value.what


def test_metrics_are_those_of_the_positive_class() -> None:
    """A model that says 'legit' to everything is worth nothing, and its f1 says so."""

    truth = np.array(["fraud"] * 10 + ["legit"] * 90)
    said = np.full(100, "legit")
    scores = np.tile([0.1, 0.9], (100, 1))
    classes = ["fraud", "legit"]
    rare = evaluation.metrics(
        evaluation.Predictions(truth, said, classes, scores, True, positive_index=0)
    )
    common = evaluation.metrics(evaluation.Predictions(truth, said, classes, scores, True))
    assert rare["f1"] == 0
    assert common["f1"] > 0.94
    dummy = evaluation.baseline(
        evaluation.Predictions(truth, said, classes, scores, True, positive_index=0)
    )
    assert dummy["accuracy"] == 0.9
    assert dummy["f1"] == 0
