"""Detects the format of an unknown table, and a target and a split for it. Pure functions."""

import csv
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.science import splitting, tasks
from pipeline.science.data import cells, headers, kinds
from pipeline.science.data.tables import SEPARATORS, are_data, snake_case

LINES = 50  # lines to detect the separator from
SETTING = re.compile(r"etl\.(\w+)=(.+?)(?= etl\.|$)")
# Usual titles of targets, the most likely first
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
        if error.start >= len(data) - 8:  # the last character is cut off
            return "utf-8"
    return "cp1252"


def separator(text: str) -> str:
    """The separator: the character that splits the most lines into the same number of cells.

    A space is the separator only if no other character fits and it splits all lines alike.
    """
    lines = [line for line in text.splitlines() if line.strip()][:LINES]
    fits = {sep: _agreement(lines, sep) for sep in (*SEPARATORS, " ")}
    agreement, width = fits.pop(" ")
    best_fit, sep = max((fit, sep) for sep, fit in fits.items())
    if best_fit[1] > 1:
        return sep
    return " " if width > 1 and agreement == 1 and len(lines) > 2 else ","


def titles(text: str, sep: str) -> dict[str, Any]:
    """The ``etl`` settings for lines above a CSV file's table, and for a table without titles."""
    lines = text.splitlines()[:LINES]
    skipped = headers.count_leading_lines(lines, sep)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines[skipped:], delimiter=sep)]
    options: dict[str, Any] = {"skip_lines": skipped} if skipped else {}
    if len(rows) > 1 and are_data(*rows[:2]):
        options["titles"] = [f"column_{number + 1}" for number in range(len(rows[0]))]
    return options


def _agreement(lines: list[str], sep: str) -> tuple[float, int]:
    """The share of lines with the most usual number of cells, and this number."""
    try:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=sep) if row)
    except csv.Error:
        return 0.0, 0
    width, rows = max(widths.items(), key=lambda pair: (pair[0] > 1, pair[1]), default=(0, 0))
    return (rows / sum(widths.values()), width) if width > 1 else (0.0, 0)


def settings(table: pd.DataFrame, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The ``etl`` settings that read the odd cells of nearly numeric columns.

    Raises:
        PipelineError: a comma is the decimal sign of one column, and groups another's digits.
    """
    options: dict[str, Any] = {}
    for _, remedies in kinds.odd_columns(table, numbers).values():
        for setting in remedies:
            for key, value in SETTING.findall(setting.removesuffix(" if they mean no value")):
                parsed = yaml.safe_load(value)
                if isinstance(parsed, list):
                    options[key] = [*dict.fromkeys([*options.get(key, []), *parsed])]
                elif isinstance(parsed, dict):
                    options[key] = {**options.get(key, {}), **parsed}
                else:
                    options[key] = parsed
    return options


def target(table: pd.DataFrame, schema: Mapping[str, Any], setting: str | None) -> tuple[str, str]:
    """The column to predict, and the reason.

    Raises:
        PipelineError: the table lacks the column, or no column can be predicted.
    """
    if setting is not None:
        name = setting if setting in table else snake_case(setting)
        if name not in table:
            raise PipelineError(
                f"--target={setting!r} is not in the table{did_you_mean(name, table.columns)}",
                f"the columns are: {', '.join(table.columns)}",
            )
        return name, "as given"
    kind_of = {column["column"]: column["kind"] for column in schema["columns"]}
    predictable = [
        name for name, kind in kind_of.items() if kind in ("number", "truth", "category")
    ]
    if not predictable:
        raise PipelineError("no column of the table can be predicted", "name one: --target")
    for name in TARGETS:
        if name in predictable:
            return name, "by its title"
    return predictable[-1], "the last column that can be predicted"


def split(
    table: pd.DataFrame, schema: Mapping[str, Any], target_column: str, task: str
) -> tuple[dict[str, str], str]:
    """The ``split`` settings, and the reason."""
    feature_schema = {
        **schema,
        "columns": [c for c in schema["columns"] if c["column"] != target_column],
    }
    for line in splitting.random_split_warnings(table, feature_schema):
        setting, _, name = line.rpartition("split.")[2].rstrip(")").partition("=")
        if setting == "group":
            return {"group": name}, f"{name} has several rows each"
        date_format = next(c["format"] for c in feature_schema["columns"] if c["column"] == name)
        days = cells.date_parts(table[name], date_format)[f"{name}.elapsed"].dropna()
        if days.is_monotonic_increasing or days.is_monotonic_decreasing:
            return {"time": name}, f"the rows are in the order of {name}"
    if task == tasks.CLASSIFICATION and table[target_column].value_counts().min() > 1:
        return {"stratify": "${model.target}"}, "each part gets each class with its share"
    return {}, "drawn at random"
