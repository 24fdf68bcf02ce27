"""The loss of each round of a fit that goes on in rounds, told while it does: trees, or epochs.

The fitted model is the same as without: scikit-learn's gradient boosting has a monitor, LightGBM
and XGBoost have callbacks, and what scikit-learn's networks and SGD print is read.
"""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import pandas as pd
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline

LossCallback = Callable[[float], None]
PRINTED = re.compile(r"^(?:Iteration \d+, |.*\bAvg\. )loss(?: =|:) ([^\s,]+)")


def fit(
    model: Pipeline, features: pd.DataFrame, target: Any, on_loss: LossCallback | None
) -> Pipeline:
    """Fit a pipeline as its own ``fit`` does.

    Args:
        model, features, target: the pipeline and the rows.
        on_loss: takes the loss on the training rows after each round of the estimator.
    """
    if on_loss is None:
        return model.fit(features, target)
    estimator, package = model[-1], type(model[-1]).__module__.partition(".")[0]
    if isinstance(estimator, GradientBoostingClassifier | GradientBoostingRegressor):
        return model.fit(features, target, **_named(model, monitor=_monitor(on_loss)))
    if package == "lightgbm":
        return model.fit(features, target, **_named(model, callbacks=[_lightgbm(on_loss)]))
    if package == "xgboost" and not estimator.early_stopping_rounds:  # that wants rows of its own
        return _fit_xgboost(model, features, target, on_loss)
    if isinstance(estimator, MLPClassifier | MLPRegressor | SGDClassifier | SGDRegressor):
        with _printing(estimator, on_loss):
            return model.fit(features, target)
    return model.fit(features, target)


def _named(model: Pipeline, **given: Any) -> dict[str, Any]:
    """Arguments for the ``fit`` of a pipeline's estimator."""
    return {f"{model.steps[-1][0]}__{name}": value for name, value in given.items()}


def _monitor(on_loss: LossCallback) -> Callable[..., bool]:
    def monitor(number: int, estimator: Any, _: dict[str, Any]) -> bool:
        on_loss(float(estimator.train_score_[number]))
        return False  # to go on

    return monitor


def _lightgbm(on_loss: LossCallback) -> Callable[[Any], None]:
    def callback(state: Any) -> None:
        if losses := state.model.eval_train():
            on_loss(float(losses[0][2]))

    return callback


def _fit_xgboost(
    model: Pipeline, features: pd.DataFrame, target: Any, on_loss: LossCallback
) -> Pipeline:
    """XGBoost measures only rows that are given beside those it is fitted on: the same ones."""
    from xgboost.callback import TrainingCallback

    class _LossReporter(TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            on_loss(
                float(next(iter(evals_log["validation_0"].values()))[-1])
            )  # of the first metric
            return False  # to go on

    rows = model[:-1].fit_transform(features, target)
    estimator, own = model[-1], model[-1].get_params()["callbacks"]
    estimator.set_params(callbacks=[*(own or []), _LossReporter()])
    try:
        estimator.fit(rows, target, eval_set=[(rows, target)], verbose=False)
    finally:
        estimator.set_params(callbacks=own)  # not kept with the model
    return model


@contextlib.contextmanager
def _printing(estimator: Any, on_loss: LossCallback) -> Iterator[None]:
    """Let an estimator print its losses, and read them; what it was to print is printed."""
    before = estimator.verbose
    printed = PrintedLosses(on_loss, sys.stdout if before else None)
    estimator.set_params(verbose=before or 1)
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        estimator.set_params(verbose=before)


class PrintedLosses(io.TextIOBase):
    """A standard output that tells the losses in what is printed.

    Args:
        on_loss: takes them.
        out: where all of it goes, too.
    """

    def __init__(self, on_loss: LossCallback, out: TextIO | None = None):
        self._on_loss, self._out, self._rest = on_loss, out, ""

    def write(self, text: str) -> int:
        """Take in a part of what is printed."""
        if self._out:
            self._out.write(text)
        *lines, self._rest = f"{self._rest}{text}".split("\n")
        for line in lines:
            if found := PRINTED.match(line):
                self._on_loss(float(found[1]))
        return len(text)
