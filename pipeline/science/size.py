"""Estimates the memory that a fit needs, before it starts. Pure functions."""

from collections.abc import Collection, Mapping

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils import get_tags

from pipeline.core.errors import PipelineError
from pipeline.science.memory import gib

NUMBER = 8  # bytes
COPIES = 3  # of the encoded table: the encoder's, the combined, the estimator's
DATE, TEXT = 6, 120  # maximum of encoded columns of a date, of a text
DRAWN = 0.632  # share of distinct rows in a bootstrap; a tree has about as many nodes


def check(
    features: pd.DataFrame,
    target: pd.Series,
    estimator: BaseEstimator,
    kinds: Mapping[str, str],
    categorical: Collection[str],
    free: int,
) -> None:
    """Refuse a fit that needs more memory than is free.

    Args:
        features: the training rows' features.
        target: the column to predict.
        estimator: the estimator, not fitted.
        kinds: the kind of each feature.
        categorical: columns of numbers that are categories.
        free: the bytes of memory that are free.

    Raises:
        PipelineError: the fit needs more; names the widest column, or the number of classes.
    """
    classes = int(target.nunique()) if is_classifier(estimator) else 1
    widths = {
        str(name): width(features[name], kinds.get(str(name), ""), name in categorical, classes)
        for name in features
    }
    if not get_tags(estimator).input_tags.sparse and widths:
        bytes_needed = COPIES * NUMBER * len(features) * sum(widths.values())
        if bytes_needed > free:
            column = max(widths, key=lambda name: widths[name])
            raise PipelineError(
                f"{column!r} has {widths[column]:,} categories, each of which becomes a column: "
                f"{len(features):,} rows of {sum(widths.values()):,} numbers take about "
                f"{gib(bytes_needed)}, and {gib(free)} are free",
                f"encode it by the target's mean (etl.schema=[{{column: {column}, kind: many}}]), "
                f"leave it out (model.drop=[{column}]), or choose a model that takes sparse "
                "tables, such as model=random_forest",
            )
    trees = getattr(estimator, "n_estimators", 0) if hasattr(estimator, "criterion") else 0
    bytes_needed = NUMBER * classes * nodes(estimator, len(features)) * trees
    if classes > 2 and bytes_needed > free:
        raise PipelineError(
            f"{target.name!r} has {classes:,} classes: the {trees} trees of a forest on "
            f"{len(features):,} rows take about {gib(bytes_needed)}, and {gib(free)} are free",
            "predict something with fewer classes, or numbers (model.task=regression), or set "
            "model.params.max_depth, or a smaller model.params.n_estimators",
        )


def nodes(estimator: BaseEstimator, rows: int) -> int:
    """The largest number of nodes of a tree; each node stores a count of all classes."""
    limits = [rows * DRAWN / max(getattr(estimator, "min_samples_leaf", 1), 1)]
    if depth := getattr(estimator, "max_depth", None):
        limits.append(2.0 ** min(depth, 60))
    if leaves := getattr(estimator, "max_leaf_nodes", None):
        limits.append(2 * leaves)
    return int(min(limits))


def width(column: pd.Series, kind: str, categorical: bool, classes: int) -> int:
    """The largest number of columns that a feature is encoded as."""
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
