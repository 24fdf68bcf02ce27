"""Detects target leakage: features that alone give the target away. Pure functions."""

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from sklearn.tree import DecisionTreeClassifier

ROWS = 5000  # first rows to look at
PERFECT, EXACT = 0.995, 0.9999  # minimum share of right rows; minimum rank correlation
USUAL = 0.97  # share of a class from which on a constant prediction is nearly perfect


def find_leaks(features: pd.DataFrame, target: pd.Series, classes: bool) -> list[str]:
    """The features that each alone predict the target almost perfectly.

    Args:
        features: the training rows' features.
        target: the column to predict.
        classes: whether the target holds classes.
    """
    features, target = features.head(ROWS), target.head(ROWS)
    if len(target) < 20 or target.nunique() < 2:
        return []
    if classes and target.value_counts(normalize=True).iloc[0] >= USUAL:
        return []
    gives_away = _class if classes else _number
    return [str(name) for name in features if gives_away(features[name], target)]


def _class(column: pd.Series, target: pd.Series) -> bool:
    has_value = column.notna()
    if has_value.mean() < PERFECT:
        return False
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        leaves = max(2 * target.nunique(), 2)
        min_leaf = max(2, len(column) // 200)
        tree = DecisionTreeClassifier(
            max_leaf_nodes=leaves, min_samples_leaf=min_leaf, random_state=0
        )
        cells, labels = column[has_value].to_frame(), target[has_value].astype(str)
        return bool(tree.fit(cells, labels).score(cells, labels) >= PERFECT)
    if column.nunique() > len(column) / 5:
        return False
    groups = target.astype(str).groupby(column.astype(str))
    right = groups.agg(lambda labels: labels.value_counts().iloc[0]).sum()
    return bool(right / len(target) >= PERFECT)


def _number(column: pd.Series, target: pd.Series) -> bool:
    if not is_numeric_dtype(column) or is_bool_dtype(column) or column.nunique() < 3:
        return False
    ranked = abs(column.rank().corr(target.rank()))  # also finds other units and logarithms
    return bool(ranked >= EXACT and column.notna().mean() >= PERFECT)
