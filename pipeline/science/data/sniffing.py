"""How a table of unknown origin is written, and what could be predicted from it. Pure functions."""

import csv
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.science import splitting, tasks
from pipeline.science.data import cells, kinds
from pipeline.science.data.tables import SEPARATORS, snake_case

LINES = 50  # that the separator is found from
SETTING = re.compile(r"etl\.(\w+)=(.+?)(?= etl\.|$)")
# Titles of what people predict, the likelier first
TARGETS = (
    *("target", "label", "class", "outcome", "y", "response", "diagnosis", "survived", "churn"),
    *("churned", "exited", "default", "fraud", "is_fraud", "price", "saleprice", "sale_price"),
    *("median_house_value", "medv", "quality", "species", "rating", "score", "sales"),
)
MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8"}


def encoding(data: bytes) -> str:
    """The encoding of a file's first bytes."""
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return name
    try:
        data[: max(len(data) - 4, 0)].decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        if error.start >= len(data) - 8:  # the last character was cut
            return "utf-8"
    return "cp1252"


def separator(text: str) -> str:
    """The character between the cells: the one that parts most lines in the same number.

    A space is one only where nothing else is, and where it parts all lines alike.
    """
    lines = [line for line in text.splitlines() if line.strip()][:LINES]
    parted = {sep: _parted(lines, sep) for sep in (*SEPARATORS, " ")}
    alike, width = parted.pop(" ")
    best, sep = max((found, sep) for sep, found in parted.items())
    if best[1] > 1:
        return sep
    return " " if width > 1 and alike == 1 and len(lines) > 2 else ","


def _parted(lines: list[str], sep: str) -> tuple[float, int]:
    """The share of the lines that a character parts in the same number, and that number."""
    try:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=sep) if row)
    except csv.Error:
        return 0.0, 0
    width, rows = max(widths.items(), key=lambda pair: (pair[0] > 1, pair[1]), default=(0, 0))
    return (rows / sum(widths.values()), width) if width > 1 else (0.0, 0)


def settings(table: pd.DataFrame, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``etl`` by which columns of numbers are read, where cells are odd."""
    found: dict[str, Any] = {}
    for name in table:
        told = kinds.odd_cells(table[name], numbers) if kinds.is_text(table[name]) else None
        for setting in told[1] if told else []:
            for key, value in SETTING.findall(setting.removesuffix(" if they mean no value")):
                read = yaml.safe_load(value)
                if isinstance(read, list):
                    found[key] = [*dict.fromkeys([*found.get(key, []), *read])]
                elif isinstance(read, dict):
                    found[key] = {**found.get(key, {}), **read}
                else:
                    found[key] = read
    return found


def target(table: pd.DataFrame, schema: Mapping[str, Any], wanted: str | None) -> tuple[str, str]:
    """The column to predict, and why.

    Raises:
        PipelineError: there is no such column, or none that can be predicted.
    """
    if wanted is not None:
        name = wanted if wanted in table else snake_case(wanted)
        if name not in table:
            raise PipelineError(
                f"--target={wanted!r} is not in the table{did_you_mean(name, table.columns)}",
                f"the columns are: {', '.join(table.columns)}",
            )
        return name, "as given"
    held = {column["column"]: column["kind"] for column in schema["columns"]}
    good = [name for name, kind in held.items() if kind in ("number", "truth", "category")]
    if not good:
        raise PipelineError("no column of the table can be predicted", "name one: --target")
    for name in TARGETS:
        if name in good:
            return name, "by its title"
    return good[-1], "the last column that can be predicted"


def split(
    table: pd.DataFrame, schema: Mapping[str, Any], goal: str, task: str
) -> tuple[dict[str, str], str]:
    """The settings of ``split``, and why."""
    others = {**schema, "columns": [c for c in schema["columns"] if c["column"] != goal]}
    for line in splitting.random_split_warnings(table, others):
        setting, _, name = line.rpartition("split.")[2].rstrip(")").partition("=")
        if setting == "group":
            return {"group": name}, f"{name} has several rows each"
        form = next(c["format"] for c in others["columns"] if c["column"] == name)
        days = cells.date_parts(table[name], form)[f"{name}.elapsed"].dropna()
        if days.is_monotonic_increasing or days.is_monotonic_decreasing:
            return {"time": name}, f"the rows are in the order of {name}"
    if task == tasks.CLASSIFICATION and table[goal].value_counts().min() > 1:
        return {"stratify": "${model.target}"}, "each part gets each class with its share"
    return {}, "drawn at random"
