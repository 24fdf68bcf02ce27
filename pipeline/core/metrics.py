"""The names of metrics, and whether a higher or a lower value is better."""

import re
from collections.abc import Mapping


def measured_as(name: str, metrics: Mapping[str, float]) -> str | None:
    """The key of a metric's cross-validation or validation value, else of its test value.

    The test value is used only without either of them, so that test data choose no model.
    """
    held_out = any(key.startswith(("cv_", "val_")) for key in metrics)
    names = (f"cv_{name}_mean", f"val_{name}") if held_out else (name,)
    return next((name for name in names if name in metrics), None)


METRICS = (  # measured by pipeline/science/evaluation.py
    *("accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"),
    *("r2", "rmse", "mae"),
)


LOSS = "train_loss"  # the estimator's loss after each round of its fit


TASKS = ("auto", "classification", "regression")  # values of model.task


ERROR_METRIC = re.compile(r"(^|_)(rmse|mae|mse|mape|loss|error|seconds)($|_)")


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error, by its name; ``rmse.solar`` is the RMSE of one target."""
    return bool(ERROR_METRIC.search(metric.partition(".")[0]))
