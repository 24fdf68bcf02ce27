"""What the columns of a table hold: recognised once, written beside it, and read from there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_float_dtype, is_numeric_dtype

from pipeline.core.files import SCHEMA_FILE
from pipeline.science.tables import read_table, write_table

CATEGORIES = 100  # a column of words with more of them lists none in the schema


def schema(table: pd.DataFrame) -> dict[str, Any]:
    """The types of a clean table's columns, as they are written beside it.

    Returns:
        ``missing``, the cells that mean "no value" in the file; and ``columns``: for each its
        name (``column``), its ``dtype`` (int, float, str, bool) and its ``kind``, and the
        ``categories`` of one with few.
    """
    return {"missing": [""], "columns": [_column(table[name]) for name in table]}


def _column(column: pd.Series) -> dict[str, Any]:
    told: dict[str, Any] = {"column": column.name, "kind": kind(column), "dtype": dtype(column)}
    if told["kind"] == "category" and column.nunique() <= CATEGORIES:
        told["categories"] = sorted(column.dropna().unique().tolist())
    return told


def dtype(column: pd.Series) -> str:
    """A column's type by the names that ``etl.schema`` has for them."""
    if is_bool_dtype(column) or (
        column.dtype == object
        and column.notna().any()
        and column.dropna().isin([True, False]).all()
    ):
        return "bool"
    if is_numeric_dtype(column):
        return "float" if is_float_dtype(column) else "int"
    return "str"


def kind(column: pd.Series) -> str:
    """What a column holds: ``number``, ``truth`` or ``category``."""
    return {"bool": "truth", "str": "category"}.get(dtype(column), "number")


def read(path: Path, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """A table's schema: the one that is known, else what its cells look like."""
    return dict(known) if known is not None else schema(read_table(path))


def write(table: pd.DataFrame, known: Mapping[str, Any], folder: Path, name: str) -> Path:
    """Write a table and its schema as the files of one artifact; the folder that holds both."""
    place = folder / name
    place.mkdir(parents=True)
    write_table(table, place / name)
    text = json.dumps(known, indent=1, ensure_ascii=False) + "\n"
    (place / SCHEMA_FILE).write_text(text, encoding="utf-8")
    return place
