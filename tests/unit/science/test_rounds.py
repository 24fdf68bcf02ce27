"""The loss of each round, told while a model is fitted, which comes out as without."""

from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.base import clone
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.science import rounds

DRAWN = np.random.default_rng(0)
FEATURES = pd.DataFrame(DRAWN.normal(size=(80, 3)), columns=["a", "b", "c"])
CLASSES = (FEATURES["a"] + FEATURES["b"] > 0).astype(int)
SEED = {"random_state": 0}


def pipeline(estimator: Any) -> Pipeline:
    """Preprocessing and an estimator."""
    return Pipeline([("prepare", StandardScaler()), ("estimator", estimator)])


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(
    "estimator",
    [
        GradientBoostingClassifier(n_estimators=7, **SEED),
        GradientBoostingRegressor(n_estimators=7, **SEED),
        HistGradientBoostingClassifier(max_iter=7, early_stopping=True, tol=0, **SEED),
        HistGradientBoostingRegressor(max_iter=7, early_stopping=True, tol=0, **SEED),
        MLPClassifier(hidden_layer_sizes=[4], max_iter=7, **SEED),
        MLPRegressor(hidden_layer_sizes=[4], max_iter=7, **SEED),
        SGDClassifier(max_iter=7, tol=None, **SEED),
        SGDRegressor(max_iter=7, tol=None, **SEED),
        lightgbm.LGBMClassifier(n_estimators=7, n_jobs=1, verbose=-1, **SEED),
        lightgbm.LGBMRegressor(n_estimators=7, n_jobs=1, verbose=-1, **SEED),
        xgboost.XGBClassifier(n_estimators=7, **SEED),
        xgboost.XGBRegressor(n_estimators=7, **SEED),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_each_round_is_told_and_the_model_is_the_same(
    estimator: Any, capsys: pytest.CaptureFixture
):
    losses: list[float] = []
    plain = pipeline(clone(estimator)).fit(FEATURES, CLASSES)
    told = rounds.fit(pipeline(clone(estimator)), FEATURES, CLASSES, losses.append)
    assert capsys.readouterr().out == ""
    assert len(losses) == 7
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(told.predict(FEATURES), plain.predict(FEATURES))
    assert repr(told[-1].get_params()) == repr(plain[-1].get_params())


def test_the_rounds_of_a_network_are_its_own_losses():
    losses: list[float] = []
    network = MLPClassifier(hidden_layer_sizes=[4], max_iter=5, **SEED)
    told = rounds.fit(pipeline(network), FEATURES, CLASSES, losses.append)
    assert losses == pytest.approx(told[-1].loss_curve_, abs=1e-8)


def test_what_was_to_be_printed_is_printed(capsys: pytest.CaptureFixture):
    losses: list[float] = []
    network = MLPClassifier(hidden_layer_sizes=[4], max_iter=3, verbose=True, **SEED)
    rounds.fit(pipeline(network), FEATURES, CLASSES, losses.append)
    assert capsys.readouterr().out.count("loss = ") == len(losses) == 3


def test_a_round_that_is_measured_in_two_ways_is_told_once():
    losses: list[float] = []
    estimator = xgboost.XGBClassifier(n_estimators=3, eval_metric=["logloss", "error"], **SEED)
    told = rounds.fit(pipeline(estimator), FEATURES, CLASSES, losses.append)
    assert losses == told[-1].evals_result()["validation_0"]["logloss"]


def test_the_training_rows_do_not_stop_a_fit_early():
    estimator = xgboost.XGBClassifier(n_estimators=3, early_stopping_rounds=1, **SEED)
    with pytest.raises(ValueError, match="at least 1 validation dataset"):
        rounds.fit(pipeline(estimator), FEATURES, CLASSES, [].append)


def test_an_estimator_without_rounds_tells_nothing():
    losses: list[float] = []
    fitted = rounds.fit(pipeline(LogisticRegression()), FEATURES, CLASSES, losses.append)
    assert fitted.predict(FEATURES).shape == CLASSES.shape
    assert losses == []
