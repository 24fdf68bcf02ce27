"""How much memory a fit will take, estimated before any of it is asked for. Pure functions."""

from collections.abc import Collection, Mapping

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils import get_tags

from pipeline.core.errors import PipelineError
from pipeline.science.memory import gib

NUMBER = 8  # bytes
COPIES = 3  # of the encoded table: the encoder's, the whole, the estimator's
DATE, TEXT = 6, 120  # columns that one becomes, at most
DRAWN = 0.632  # share of the rows that a tree sees; half as many leaves are usual


def check(
    features: pd.DataFrame,
    target: pd.Series,
    estimator: BaseEstimator,
    kinds: Mapping[str, str],
    categorical: Collection[str],
    free: int,
) -> None:
    """Refuse a fit that the memory does not suffice for.

    Args:
        features: the training rows' features.
        target: what is to be predicted.
        estimator: the estimator, not fitted.
        kinds: what the features hold.
        categorical: columns of numbers that are categories.
        free: the bytes that there are.

    Raises:
        PipelineError: names the column with the most categories, how many there are, and what
            to do instead.
    """
    classes = int(target.nunique()) if is_classifier(estimator) else 1
    widths = {
        str(name): width(features[name], kinds.get(str(name), ""), name in categorical, classes)
        for name in features
    }
    if not get_tags(estimator).input_tags.sparse and widths:
        needed = COPIES * NUMBER * len(features) * sum(widths.values())
        if needed > free:
            column = max(widths, key=lambda name: widths[name])
            raise PipelineError(
                f"{column!r} has {widths[column]:,} categories, each of which becomes a column: "
                f"{len(features):,} rows of {sum(widths.values()):,} numbers take about "
                f"{gib(needed)}, and {gib(free)} are free",
                f"encode it by the target's mean (etl.schema=[{{column: {column}, kind: many}}]), "
                f"leave it out (model.drop=[{column}]), or choose a model that takes sparse "
                "tables, such as model=random_forest",
            )
    trees = getattr(estimator, "n_estimators", 0) if hasattr(estimator, "criterion") else 0
    needed = NUMBER * classes * nodes(estimator, len(features)) * trees
    if classes > 2 and needed > free:
        raise PipelineError(
            f"{target.name!r} has {classes:,} classes: the {trees} trees of a forest on "
            f"{len(features):,} rows take about {gib(needed)}, and {gib(free)} are free",
            "predict something with fewer classes, or numbers (model.task=regression), or set "
            "model.params.max_depth, or a smaller model.params.n_estimators",
        )


def nodes(estimator: BaseEstimator, rows: int) -> int:
    """How many nodes a tree has on rows that are hard to tell apart; each counts all classes."""
    limits = [rows * DRAWN / max(getattr(estimator, "min_samples_leaf", 1), 1)]
    if depth := getattr(estimator, "max_depth", None):
        limits.append(2.0 ** min(depth, 60))
    if leaves := getattr(estimator, "max_leaf_nodes", None):
        limits.append(2 * leaves)
    return int(min(limits))


def width(column: pd.Series, kind: str, categorical: bool, classes: int) -> int:
    """How many columns of numbers a feature becomes, at most."""
    if kind == "text":
        return TEXT
    if kind == "many" and not categorical:
        return classes if classes > 2 else 1
    if kind.startswith("date"):
        return DATE
    number = is_numeric_dtype(column) and not is_bool_dtype(column)
    if number and not categorical and kind != "category":
        return 1
    return int(column.nunique())
