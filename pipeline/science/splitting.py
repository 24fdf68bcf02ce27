"""Splits a table into a training and a test part. Pure functions."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from pipeline.core.errors import PipelineError, did_you_mean

METHODS = ("auto", "random", "stratified", "group", "time")
ENTITY = re.compile(  # titles of columns that name somebody or something with several rows
    r"(.*_)?(id|ids|key|customer|patient|user|client|subject|person|participant|household|account"
    r"|session|store|shop|device|machine|sensor|group|family|company|school|student|player)"
    r"(_?(id|key|no|nr|code))?"
)


def choose_method(method: str, stratify: str | None, group: str | None, time: str | None) -> str:
    """How rows are drawn: as it is set, or by the column that is named.

    Raises:
        PipelineError: there is no such method, or the column that it needs is not named.
    """
    named = {"stratified": stratify, "group": group, "time": time}
    keys = {"stratified": "stratify", "group": "group", "time": "time"}
    if method == "auto":
        chosen = [name for name, column in named.items() if column]
        if len(chosen) > 1:
            raise PipelineError(
                f"split has columns for several methods: {', '.join(keys[one] for one in chosen)}",
                f"choose one: split.method={chosen[-1]}",
            )
        return chosen[0] if chosen else "random"
    if method not in METHODS:
        raise PipelineError(
            f"split.method={method!r}{did_you_mean(method, METHODS)}",
            f"use one of: {', '.join(METHODS)}",
        )
    if method in named and not named[method]:
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
    """Part a table's rows in two, each part in the table's own order.

    Args:
        table: the whole.
        test_size: the test part's share of the rows, between 0 and 1.
        random_state: seed of the draw.
        stratify: a column whose classes keep their shares in both parts, or None.
        group: each row's group; a group is in one part only.
        time: each row's time; the test part is what comes last.

    Returns:
        The training and the test part; no row is in both, and together they are the whole.

    Raises:
        PipelineError: a share that leaves a part empty, or a column that can't be kept in
            proportion.
    """
    if not 0 < test_size < 1:
        raise PipelineError(f"split.test_size={test_size} is not between 0 and 1", "use 0.2, say")
    rows = pd.RangeIndex(len(table))
    try:
        if time is not None:
            train, test = last_share(time, test_size)
        elif group is not None:
            one = GroupShuffleSplit(1, test_size=test_size, random_state=random_state)
            train, test = (rows[places] for places in next(one.split(rows, groups=group)))
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
    """The places of the rows before a moment, and of those from it on; about a share of all.

    Raises:
        PipelineError: all rows are of one moment, or some of none.
    """
    if time.isna().any():
        raise PipelineError(
            f"split.time={time.name!r} has {int(time.isna().sum())} rows without a time",
            "list it in etl.required, so that they are dropped",
        )
    ordered = time.sort_values(kind="stable").reset_index(drop=True)
    late = (time >= ordered.iloc[max(round(len(time) * (1 - share)), 0)]).to_numpy()
    if late.all():
        late = (time > ordered.iloc[0]).to_numpy()
    if not late.any():
        raise PipelineError(
            f"split.time={time.name!r} is the same in all rows", "name another column"
        )
    rows = pd.RangeIndex(len(time))
    return rows[~late], rows[late]


def split_times(table: pd.DataFrame, name: str, schema: Mapping[str, Any]) -> pd.Series:
    """A column that rows are ordered by, as times or numbers.

    Raises:
        PipelineError: there is no such column, or it holds neither.
    """
    column = split_column("time", table, name)
    forms = {told["column"]: told.get("format") for told in schema["columns"]}
    cells = column.mask(column.astype("str") == "")
    if form := forms.get(name):
        whole = cells.map(lambda cell: f"{cell:.0f}" if isinstance(cell, float) else str(cell))
        read = pd.to_datetime(whole.where(cells.notna()), format=form, errors="coerce", utc=True)
    else:
        read = pd.to_numeric(cells, errors="coerce")
    if read.isna().sum() > cells.isna().sum():
        raise PipelineError(
            f"split.time={name!r} holds {cells[read.isna() & cells.notna()].iloc[0]!r}, which is "
            "neither a date nor a number",
            "name a column of dates or numbers",
        )
    return read


def split_column(setting: str, table: pd.DataFrame, name: str) -> pd.Series:
    """The column that a setting of the split names.

    Raises:
        PipelineError: there is no such column.
    """
    if name not in table:
        raise PipelineError(
            f"split.{setting} names {name!r}, which the table lacks"
            f"{did_you_mean(name, table.columns)}",
            f"the columns are: {', '.join(table.columns)}",
        )
    return table[name]


def split_key(table: pd.DataFrame, schema: Mapping[str, Any]) -> tuple[str, pd.Series | None]:
    """How the training part was drawn, and each of its rows' group or time."""
    told = schema.get("split") or {"method": "random", "column": None}
    method, name = told["method"], told["column"]
    if method == "group":
        return method, split_column("group", table, name)
    return method, split_times(table, name, schema) if method == "time" else None


def random_split_warnings(table: pd.DataFrame, schema: Mapping[str, Any]) -> list[str]:
    """What speaks against a random draw: dates, and keys of entities that have several rows."""
    lines = []
    for column in schema["columns"]:
        name, kind = column["column"], column.get("kind")
        distinct = table[name].nunique() if name in table else 0
        if kind == "date":
            lines.append(
                f"{name} is a date, and rows are drawn at random: a model that predicts what comes "
                f"next is measured by split.method=time split.time={name}"
            )
        repeats = column["dtype"] != "float" and 5 <= distinct <= len(table) / 1.5
        if repeats and kind not in ("date", "truth") and ENTITY.fullmatch(str(name)):
            lines.append(
                f"{name} has {distinct} values in {len(table)} rows, which are drawn at random: "
                f"each may be in both parts (split.method=group split.group={name})"
            )
    return lines


def shared_rows(train: pd.DataFrame, test: pd.DataFrame) -> int:
    """How many rows of the test part are equal to one of the training part."""
    known = pd.util.hash_pandas_object(train, index=False)
    return int(pd.util.hash_pandas_object(test, index=False).isin(known).sum())


def unseen(train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """The test rows that are equal to no training row, in the columns that both tables have."""
    both = [name for name in test if name in train]
    known = pd.util.hash_pandas_object(train[both], index=False)
    return test[~pd.util.hash_pandas_object(test[both], index=False).isin(known)]


def stratification_labels(table: pd.DataFrame, stratify: str) -> pd.Series:
    """Each row's class, as a number.

    Raises:
        PipelineError: there is no such column, or it can't be split in proportion.
    """
    if stratify not in table:
        raise PipelineError(
            f"split.stratify names {stratify!r}, which the table lacks"
            f"{did_you_mean(stratify, table.columns)}",
            f"use one of {', '.join(table.columns)}, or split.stratify=null; a file of "
            "conf/data may have taken it from model.target, which is wrong then",
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
