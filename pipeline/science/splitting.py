"""Splits a table into a training and a test part. Pure functions."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from pipeline.core.errors import PipelineError, did_you_mean, unknown_value

METHODS = ("auto", "random", "stratified", "group", "time")
ENTITY = re.compile(  # titles of columns that identify an entity, which may have several rows
    r"(.*_)?(id|ids|key|customer|patient|user|client|subject|person|participant|household|account"
    r"|session|store|shop|device|machine|sensor|group|family|company|school|student|player)"
    r"(_?(id|key|no|nr|code))?"
)


def choose_method(method: str, stratify: str | None, group: str | None, time: str | None) -> str:
    """The split method: the setting, or for ``auto`` the method whose column is named.

    Raises:
        PipelineError: the method is unknown, or the setting for its column is empty.
    """
    columns = {"stratified": stratify, "group": group, "time": time}
    keys = {"stratified": "stratify", "group": "group", "time": "time"}
    if method == "auto":
        candidates = [name for name, column in columns.items() if column]
        if len(candidates) > 1:
            raise PipelineError(
                "split has columns for several methods: "
                f"{', '.join(keys[name] for name in candidates)}",
                f"choose one: split.method={candidates[-1]}",
            )
        return candidates[0] if candidates else "random"
    if method not in METHODS:
        raise unknown_value("split.method", method, METHODS)
    if method in columns and not columns[method]:
        raise PipelineError(
            f"split.method={method} needs a column", f"name it: split.{keys[method]}=COLUMN"
        )
    return method


def split(
    table: pd.DataFrame,
    test_size: float,
    random_state: int,
    stratify: str | None,
    group: pd.Series | None = None,
    time: pd.Series | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a table's rows into two parts, each in the order of the table.

    Args:
        table: the table.
        test_size: the test part's share of the rows, between 0 and 1.
        random_state: seed of the draw.
        stratify: a column whose classes keep their shares in both parts, or None.
        group: each row's group; a group is in one part only.
        time: each row's time; the test part has the latest rows.

    Returns:
        The training and the test part; each row is in exactly one of them.

    Raises:
        PipelineError: a part would be empty, or the classes can't keep their shares.
    """
    if not 0 < test_size < 1:
        raise PipelineError(f"split.test_size={test_size} is not between 0 and 1", "use 0.2, say")
    rows = pd.RangeIndex(len(table))
    try:
        if time is not None:
            train, test = last_share(time, test_size)
        elif group is not None:
            splitter = GroupShuffleSplit(1, test_size=test_size, random_state=random_state)
            train, test = (rows[part] for part in next(splitter.split(rows, groups=group)))
        else:
            train, test = train_test_split(
                rows,
                test_size=test_size,
                random_state=random_state,
                stratify=None if stratify is None else stratification_labels(table, stratify),
            )
    except ValueError as error:  # a part too small for its classes, or empty
        raise PipelineError(
            f"split.test_size={test_size} of {len(table)} rows can't be drawn: {error}",
            "use a share that leaves each part at least one row of each class",
        ) from error
    return table.iloc[train.sort_values()], table.iloc[test.sort_values()]


def last_share(time: pd.Series, share: float) -> tuple[pd.Index, pd.Index]:
    """The positions of the earlier rows, and of the latest rows, about a share of all.

    Raises:
        PipelineError: all rows have the same time, or some have none.
    """
    if time.isna().any():
        raise PipelineError(
            f"split.time={time.name!r} has {int(time.isna().sum())} rows without a time",
            "list it in etl.required, so that they are dropped",
        )
    ordered = time.sort_values(kind="stable").reset_index(drop=True)
    is_late = (time >= ordered.iloc[max(round(len(time) * (1 - share)), 0)]).to_numpy()
    if is_late.all():
        is_late = (time > ordered.iloc[0]).to_numpy()
    if not is_late.any():
        raise PipelineError(
            f"split.time={time.name!r} is the same in all rows", "name another column"
        )
    rows = pd.RangeIndex(len(time))
    return rows[~is_late], rows[is_late]


def split_times(table: pd.DataFrame, name: str, schema: Mapping[str, Any]) -> pd.Series:
    """A column that orders the rows, as times or numbers.

    Raises:
        PipelineError: the table lacks the column, or it holds neither.
    """
    column = split_column("time", table, name)
    format_of = {rule["column"]: rule.get("format") for rule in schema["columns"]}
    cells = column.mask(column.astype("str") == "")
    if date_format := format_of.get(name):
        digits = cells.map(lambda cell: f"{cell:.0f}" if isinstance(cell, float) else str(cell))
        parsed = pd.to_datetime(
            digits.where(cells.notna()), format=date_format, errors="coerce", utc=True
        )
    else:
        parsed = pd.to_numeric(cells, errors="coerce")
    if parsed.isna().sum() > cells.isna().sum():
        raise PipelineError(
            f"split.time={name!r} holds {cells[parsed.isna() & cells.notna()].iloc[0]!r}, which is "
            "neither a date nor a number",
            "name a column of dates or numbers",
        )
    return parsed


def split_column(setting: str, table: pd.DataFrame, name: str) -> pd.Series:
    """The column that a setting of the split names.

    Raises:
        PipelineError: the table lacks the column.
    """
    if name not in table:
        raise PipelineError(
            f"split.{setting} names {name!r}, which the table lacks"
            f"{did_you_mean(name, table.columns)}",
            f"the columns are: {', '.join(table.columns)}",
        )
    return table[name]


def split_key(table: pd.DataFrame, schema: Mapping[str, Any]) -> tuple[str, pd.Series | None]:
    """The method that drew the training part, and the group or time of each row."""
    settings = schema.get("split") or {"method": "random", "column": None}
    method, name = settings["method"], settings["column"]
    if method == "group":
        return method, split_column("group", table, name)
    return method, split_times(table, name, schema) if method == "time" else None


def random_split_warnings(table: pd.DataFrame, schema: Mapping[str, Any]) -> list[str]:
    """Warnings about a random split: date columns, and identifiers with several rows each."""
    lines = []
    for column in schema["columns"]:
        name, kind = column["column"], column.get("kind")
        distinct = table[name].nunique() if name in table else 0
        if kind == "date":
            lines.append(
                f"{name} is a date, and rows are drawn at random: to measure forecasts, set "
                f"split.method=time split.time={name}"
            )
        repeats = column["dtype"] != "float" and 5 <= distinct <= len(table) / 1.5
        if repeats and kind not in ("date", "truth") and ENTITY.fullmatch(str(name)):
            lines.append(
                f"{name} has {distinct} values in {len(table)} rows, which are drawn at random: "
                f"each may be in both parts (split.method=group split.group={name})"
            )
    return lines


def shared_rows(train: pd.DataFrame, test: pd.DataFrame) -> int:
    """The number of test rows that equal a training row."""
    train_hashes = pd.util.hash_pandas_object(train, index=False)
    return int(pd.util.hash_pandas_object(test, index=False).isin(train_hashes).sum())


def unseen(train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """The test rows that equal no training row, compared by the columns of both tables."""
    common = [name for name in test if name in train]
    train_hashes = pd.util.hash_pandas_object(train[common], index=False)
    return test[~pd.util.hash_pandas_object(test[common], index=False).isin(train_hashes)]


def stratification_labels(table: pd.DataFrame, stratify: str) -> pd.Series:
    """Each row's class, as a number.

    Raises:
        PipelineError: the table lacks the column, or a class has a single row.
    """
    if stratify not in table:
        raise PipelineError(
            f"split.stratify names {stratify!r}, which the table lacks"
            f"{did_you_mean(stratify, table.columns)}",
            f"use one of {', '.join(table.columns)}, or split.stratify=null; if a "
            "file of conf/data sets it to ${model.target}, correct model.target",
        )
    numbers, labels = pd.factorize(table[stratify], sort=True, use_na_sentinel=False)
    numbers = pd.Series(numbers)
    singles = [
        str(labels[number]) for number, count in numbers.value_counts().items() if count == 1
    ]
    if singles:
        raise PipelineError(
            f"split.stratify={stratify!r}: {len(singles)} of {len(labels)} classes have a single "
            f"member, which can't be in both parts: {', '.join(map(repr, singles[:5]))}",
            "use split.stratify=null, or a column whose classes all have two rows or more",
        )
    return numbers
