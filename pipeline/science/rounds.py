"""Reports the loss of each round (a tree or an epoch) while an iterative estimator is fitted.

Reporting does not change the fitted model. Scikit-learn's gradient boosting takes a monitor,
LightGBM and XGBoost take callbacks, and scikit-learn's networks, SGD and histogram-based gradient
boosting print their losses, which are parsed. The last of these computes its loss only with early
stopping, its default for more than 10,000 rows.
"""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import pandas as pd
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline

LossCallback = Callable[[float], None]
PRINTED = re.compile(r"^(?:Iteration \d+, |.*\bAvg\. |.*, train )loss(?: =|:) ([^\s,]+)")
PRINTING = (
    MLPClassifier,
    MLPRegressor,
    SGDClassifier,
    SGDRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)


def fit(
    model: Pipeline, features: pd.DataFrame, target: Any, on_loss: LossCallback | None
) -> Pipeline:
    """Fit a pipeline, with the same result as its own ``fit``.

    Args:
        model, features, target: the pipeline and the rows.
        on_loss: called with the training loss after each round of the estimator.
    """
    if on_loss is None:
        return model.fit(features, target)
    estimator, package = model[-1], type(model[-1]).__module__.partition(".")[0]
    if isinstance(estimator, GradientBoostingClassifier | GradientBoostingRegressor):
        return model.fit(features, target, **_named(model, monitor=_monitor(on_loss)))
    if package == "lightgbm":
        return model.fit(features, target, **_named(model, callbacks=[_lightgbm(on_loss)]))
    # early stopping needs an eval_set of its own
    if package == "xgboost" and not estimator.early_stopping_rounds:
        return _fit_xgboost(model, features, target, on_loss)
    if isinstance(estimator, PRINTING):
        with _printing(estimator, on_loss):
            return model.fit(features, target)
    return model.fit(features, target)


def _named(model: Pipeline, **arguments: Any) -> dict[str, Any]:
    """Keyword arguments of ``Pipeline.fit`` for the final estimator."""
    return {f"{model.steps[-1][0]}__{name}": value for name, value in arguments.items()}


def _monitor(on_loss: LossCallback) -> Callable[..., bool]:
    def monitor(number: int, estimator: Any, _: dict[str, Any]) -> bool:
        on_loss(float(estimator.train_score_[number]))
        return False  # continue

    return monitor


def _lightgbm(on_loss: LossCallback) -> Callable[[Any], None]:
    def callback(state: Any) -> None:
        if losses := state.model.eval_train():
            on_loss(float(losses[0][2]))

    return callback


def _fit_xgboost(
    model: Pipeline, features: pd.DataFrame, target: Any, on_loss: LossCallback
) -> Pipeline:
    """Fit with the training rows as the ``eval_set``, on which XGBoost measures the loss."""
    from xgboost.callback import TrainingCallback

    class LossReporter(TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            losses = next(iter(evals_log["validation_0"].values()))  # of the first metric
            on_loss(float(losses[-1]))
            return False  # continue

    rows = model[:-1].fit_transform(features, target)
    estimator, callbacks = model[-1], model[-1].get_params()["callbacks"]
    estimator.set_params(callbacks=[*(callbacks or []), LossReporter()])
    try:
        estimator.fit(rows, target, eval_set=[(rows, target)], verbose=False)
    finally:
        estimator.set_params(callbacks=callbacks)  # the callback is not stored with the model
    return model


@contextlib.contextmanager
def _printing(estimator: Any, on_loss: LossCallback) -> Iterator[None]:
    """Let an estimator print its losses, and parse them; pass its own verbose output through."""
    verbose = estimator.verbose
    printed = PrintedLosses(on_loss, sys.stdout if verbose else None)
    estimator.set_params(verbose=max(int(verbose), 2))
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        estimator.set_params(verbose=verbose)


class PrintedLosses(io.TextIOBase):
    """A text stream that parses the losses in the printed text.

    Args:
        on_loss: called with each loss.
        out: a stream that gets a copy of the text.
    """

    def __init__(self, on_loss: LossCallback, out: TextIO | None = None):
        self._on_loss, self._out, self._unfinished = on_loss, out, ""

    def write(self, text: str) -> int:
        """Parse the complete lines of the text so far."""
        if self._out:
            self._out.write(text)
        *lines, self._unfinished = f"{self._unfinished}{text}".split("\n")
        for line in lines:
            if match := PRINTED.match(line):
                self._on_loss(float(match[1]))
        return len(text)
