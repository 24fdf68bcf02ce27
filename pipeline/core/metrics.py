"""The metrics that models are measured by: their names and which direction is better."""

import re
from collections.abc import Mapping


def measured_as(name: str, metrics: Mapping[str, float]) -> str | None:
    """The name under which a metric was measured: by folds, or on held-out rows.

    On the test data only where nothing was measured on training rows: nothing is chosen by it.
    """
    held_out = any(key.startswith(("cv_", "val_")) for key in metrics)
    names = (f"cv_{name}_mean", f"val_{name}") if held_out else (name,)
    return next((name for name in names if name in metrics), None)


METRICS = (  # what pipeline/science/evaluation.py measures
    *("accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"),
    *("r2", "rmse", "mae"),
)


LOSS = "train_loss"  # what an estimator makes small, after each round of its fit


TASKS = ("auto", "classification", "regression")  # what model.task may be


ERROR_METRIC = re.compile(r"(^|_)(rmse|mae|mse|mape|loss|error|seconds)($|_)")


def lower_is_better(metric: str) -> bool:
    """Whether a metric measures an error, by its name; ``rmse.solar`` is that of one target."""
    return bool(ERROR_METRIC.search(metric.partition(".")[0]))
