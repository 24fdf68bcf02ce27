"""Splits a table into a training and a test part. Pure functions."""

import pandas as pd
from sklearn.model_selection import train_test_split

from pipeline.core.errors import PipelineError, did_you_mean


def split(
    table: pd.DataFrame, test_size: float, random_state: int, stratify: str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part a table's rows in two, each part in the table's own order.

    Args:
        table: the whole.
        test_size: the test part's share of the rows, between 0 and 1.
        random_state: seed of the draw.
        stratify: a column whose classes keep their shares in both parts, or None.

    Returns:
        The training and the test part; no row is in both, and together they are the whole.

    Raises:
        PipelineError: a share that leaves a part empty, or a column that can't be kept in
            proportion.
    """
    if not 0 < test_size < 1:
        raise PipelineError(f"split.test_size={test_size} is not between 0 and 1", "use 0.2, say")
    try:
        train, test = train_test_split(
            pd.RangeIndex(len(table)),
            test_size=test_size,
            random_state=random_state,
            stratify=None if stratify is None else classes(table, stratify),
        )
    except ValueError as error:  # a part too small for its classes, or empty
        raise PipelineError(
            f"split.test_size={test_size} of {len(table)} rows can't be drawn: {error}",
            "use a share that leaves each part at least one row of each class",
        ) from error
    return table.iloc[train.sort_values()], table.iloc[test.sort_values()]


def shared_rows(train: pd.DataFrame, test: pd.DataFrame) -> int:
    """How many rows of the test part are equal to one of the training part."""
    known = pd.util.hash_pandas_object(train, index=False)
    return int(pd.util.hash_pandas_object(test, index=False).isin(known).sum())


def classes(table: pd.DataFrame, stratify: str) -> pd.Series:
    """Each row's class, as a number.

    Raises:
        PipelineError: there is no such column, or it can't be split in proportion.
    """
    if stratify not in table:
        raise PipelineError(
            f"split.stratify names {stratify!r}, which the table lacks"
            f"{did_you_mean(stratify, table.columns)}",
            f"use one of {', '.join(table.columns)}, or split.stratify=null",
        )
    numbers, labels = pd.factorize(table[stratify], sort=True, use_na_sentinel=False)
    numbers = pd.Series(numbers)
    single = [str(labels[number]) for number, n in numbers.value_counts().items() if n == 1]
    if single:
        raise PipelineError(
            f"split.stratify={stratify!r}: {len(single)} of {len(labels)} classes have a single "
            f"member, which can't be in both parts: {', '.join(map(repr, single[:5]))}",
            "use split.stratify=null, or a column whose classes all have two rows or more",
        )
    return numbers
