"""Reads CSV files of users, and reads and writes the pipeline's own tables."""

import csv
import mmap
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_float_dtype, is_numeric_dtype, is_string_dtype

from pipeline.core.errors import PipelineError

SEPARATORS = (";", "\t", "|", ",")
SYMBOLS = {"#": "number", "%": "percent"}
YEARS = range(1800, 2200)  # which may be titles
EXACT = 2**53  # a float does not hold larger integers exactly
# Bytes that may be codes in a number column: 007, or 1E5; only these files are read twice
SUSPICIOUS = re.compile(rb"(?:^|[^\w.:/-])[+-]?0[0-9]|[0-9][eE][0-9]", re.MULTILINE)


def snake_case(title: str) -> str:
    """A column title as a name: ``Sp. Atk`` becomes ``sp_atk``, ``#`` becomes ``number``."""
    text = unicodedata.normalize("NFC", str(title)).strip()
    text = SYMBOLS.get(text, text)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    return re.sub(r"[\W_]+", "_", text).strip("_") or "column"


def by_names(settings: dict[str, Any]) -> dict[str, Any]:
    """``etl`` settings with the titles of columns replaced by their names in snake case."""
    renamed = dict(settings)
    if renamed.get("required"):
        renamed["required"] = [snake_case(title) for title in renamed["required"]]
    for key in {"fill", "parse"} & renamed.keys():
        renamed[key] = {snake_case(title): v for title, v in (renamed[key] or {}).items()}
    if renamed.get("schema"):
        renamed["schema"] = [
            {**rule, "column": snake_case(rule["column"])} for rule in renamed["schema"]
        ]
    return renamed


def dialect(sep: str | None, encoding: str | None) -> tuple[str, str]:
    r"""The separator and the encoding that a CSV file is read with.

    Args:
        sep: the setting: None or empty means a comma, the two characters ``\t`` a tab.
        encoding: None or empty means UTF-8, with or without a byte order mark.
    """
    sep, encoding = sep or ",", encoding or "utf-8"
    utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    return "\t" if sep == "\\t" else sep, "utf-8-sig" if utf8 else encoding


def read_raw(
    path: Path,
    sep: str | None = None,
    encoding: str | None = None,
    missing: Sequence[str] = ("",),
    text_columns: Sequence[str] = (),
    as_text: bool = False,
) -> pd.DataFrame:
    """Read a user's CSV file, with unchanged titles and cells.

    Columns of numbers that are codes (:func:`code`) stay text.

    Args:
        path: the file.
        sep: the character between cells; None means a comma.
        encoding: None means UTF-8, with or without a byte order mark.
        missing: cells that mean "no value".
        text_columns: names (in snake case) of columns to keep as text, ``007`` and all.
        as_text: keep all columns as text, for another number format.

    Raises:
        PipelineError: the file is not a table in this form; names the setting to change.
    """
    sep, codec = dialect(sep, encoding)
    if len(sep) != 1 or not sep.isascii() or sep in "\r\n":
        raise PipelineError(
            f"etl.sep={sep!r} is not one ASCII character", "set etl.sep=';', say, or '\\t'"
        )
    csv_options = {"sep": sep, "encoding": codec}
    try:
        titles = pd.read_csv(path, nrows=0, **csv_options).columns
        check_unique_titles(path, **csv_options)
        check_titles(path, titles, **csv_options)
        texts = [title for title in titles if as_text or snake_case(title) in text_columns]
        cells = {**csv_options, "na_values": list(missing), "skipinitialspace": True}
        table = _read_exactly(
            path,
            **cells,
            dtype_backend="numpy_nullable",  # integers stay integers beside missing values
            dtype=dict.fromkeys(texts, "string"),
        )
        table = _with_codes(table, path, **cells)
    except UnicodeError as error:
        raise wrong_encoding(path, csv_options["encoding"], str(error)) from error
    except LookupError as error:
        raise PipelineError(
            f"etl.encoding={encoding!r}: {error}", "use utf-8 or latin-1"
        ) from error
    except pd.errors.EmptyDataError as error:
        raise PipelineError(f"{path.name} is empty", "check data.file_url") from error
    except pd.errors.ParserError as error:
        raise _not_a_table(path, sep, str(error).strip()) from error
    # pandas takes surplus first columns as the index
    if not isinstance(table.index, pd.RangeIndex):
        raise PipelineError(
            f"{path.name} has {len(titles)} title(s), {', '.join(map(str, titles[:5]))}, and more "
            "cells than that in a row",
            "give each column a title, and end no row with a separator; if other lines stand "
            "above the titles, set etl.skip_lines to their number",
        )
    return table


def _not_a_table(path: Path, sep: str, reason: str) -> PipelineError:
    """The error for a file that pandas can't parse, for the given reason."""
    if unclosed := re.search(r"EOF inside string starting at row (\d+)", reason):
        return PipelineError(
            f"{path.name} has a quotation mark that is not closed: line {int(unclosed[1]) + 1}",
            "close it in the data, or take it out",
        )
    uneven = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason)
    if uneven is None:
        return PipelineError(
            f"{path.name} is not a table separated by {sep!r}: {reason}",
            "set etl.sep to the character between the cells, for example etl.sep=';'",
        )
    expected, line, cells = map(int, uneven.groups())
    what = f"line {line} of {path.name} has {cells} cells, and the lines above it {expected}"
    if expected == 1:
        return PipelineError(
            what,
            f"if those are not the table's, etl.skip_lines={line - 1} leaves them out; else set "
            f"etl.sep, which is {sep!r}",
        )
    return PipelineError(what, f"correct the line, or set etl.sep, which is {sep!r}")


def _with_codes(table: pd.DataFrame, path: Path, **csv_options: Any) -> pd.DataFrame:
    """The table with columns of codes as text instead of numbers."""
    numbers = table.select_dtypes("number").columns
    exceeding = [name for name in numbers if not is_float_dtype(table[name])]
    exceeding = [name for name in exceeding if (table[name].abs() > EXACT).any()]
    if not isinstance(table.index, pd.RangeIndex) or not (len(numbers) and len(table)):
        return table
    encoding = csv_options["encoding"]
    if not exceeding and encoding.startswith(("utf-8", "latin", "cp", "iso", "ascii")):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if not SUSPICIOUS.search(data):
                return table
    texts = pd.read_csv(path, dtype="string", keep_default_na=False, **csv_options)
    codes = {name: texts[name] for name in numbers if code(texts[name].str.strip().dropna())}
    return table.assign(**codes) if codes else table


def code(words: pd.Series) -> str:
    """The reason why numbers are codes, such as zip codes; empty if they are not.

    Args:
        words: stripped text without gaps, each a number.
    """
    if words.str.fullmatch(r"[+-]?0\d+(\.\d*)?").any():
        return "leading zeros"
    if words.str.contains(r"\.|[eE][+-]").any():
        return ""
    if words.str.fullmatch(r"\d+[eE]\d+").any():
        return "an E between digits"
    long = words[words.str.len() >= len(str(EXACT))]
    long = long[long.str.fullmatch(r"[+-]?\d+")]
    if any(abs(int(word)) > EXACT for word in long):
        return "more digits than a number holds"
    return ""


def missing_words(
    path: Path, table: pd.DataFrame, words: Sequence[str], sep: str | None, encoding: str | None
) -> dict[str, dict[str, int]]:
    """The words read as missing values in text columns, and their counts.

    Args:
        path: the file that the table was read from by :func:`read_raw`.
        words: cells that mean "no value".
    """
    words = [word for word in words if word.strip()]
    texts = [name for name in table if is_string_dtype(table[name]) and table[name].isna().any()]
    if not (words and texts):
        return {}
    sep, codec = dialect(sep, encoding)
    options = {"sep": sep, "encoding": codec, "skipinitialspace": True, "keep_default_na": False}
    cells = pd.read_csv(path, dtype="string", na_filter=False, **options)[texts]
    counted = {name: cells[name].str.strip().value_counts() for name in texts}
    return {
        str(name): present
        for name, counts in counted.items()
        if (present := {word: int(counts[word]) for word in words if word in counts})
    }


def check_unique_titles(path: Path, **csv_options: Any) -> None:
    """Refuse duplicate titles, to which pandas would add numbers, and rows of data as titles.

    Raises:
        PipelineError: names the titles.
    """
    text = {"header": None, "dtype": str, "na_filter": False, "on_bad_lines": "skip"}
    rows = pd.read_csv(path, nrows=2, **text, **csv_options)
    titles = rows.iloc[0].str.strip()
    if len(rows) > 1 and are_data(titles, rows.iloc[1].str.strip()):
        raise PipelineError(
            f"{path.name} has no titles: its first line is {', '.join(titles[:5])}",
            f"name its {len(titles)} columns: etl.titles=[first,second,...]",
        )
    duplicates = sorted(set(titles[titles.duplicated() & (titles != "")]))
    if duplicates:
        raise PipelineError(
            f"{path.name} has several columns titled {', '.join(map(repr, duplicates[:5]))}",
            "rename them in the data",
        )


def check_titles(path: Path, titles: pd.Index, sep: str, encoding: str) -> None:
    """Refuse a header read with the wrong separator or encoding.

    Raises:
        PipelineError: names the separator in the header, or the encoding that was tried.
    """
    if any("\0" in str(title) for title in titles):
        raise wrong_encoding(path, encoding, "its header has zero bytes")
    separators = [char for char in SEPARATORS if char in str(titles[0]) and char != sep]
    if len(titles) == 1 and separators:
        setting = '"\\t"' if separators[0] == "\t" else repr(separators[0])
        raise PipelineError(
            f"{path.name} has one column, {titles[0][:60]!r}: it looks separated by "
            f"{separators[0]!r}, and was read with {sep!r}",
            f"set etl.sep={setting}",
        )


def are_data(titles: Iterable[str], row: Iterable[str]) -> bool:
    """Whether the titles of a table are rather its first row.

    They are if each number of the next row is below a number, and these are neither years nor
    consecutive, as titles are that count the columns.
    """
    numbers = [title for title, cell in zip(titles, row, strict=False) if _is_number(cell)]
    if not numbers or not all(map(_is_number, numbers)):
        return False
    values = [float(number) for number in numbers]
    consecutive = len(values) > 1 and all(b - a == 1 for a, b in pairwise(values))
    return not (consecutive or all(value in YEARS for value in values))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def wrong_encoding(path: Path, encoding: str, why: str) -> PipelineError:
    """The error for a file that is not text in its ``etl.encoding``."""
    return PipelineError(
        f"{path.name} is not text in {encoding}: {why}",
        "set etl.encoding to the file's encoding, for example latin-1, cp1252 or utf-16",
    )


def read_table(
    path: Path,
    text_columns: Sequence[str] = (),
    schema: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Read a table written by :func:`write_table`; words like ``None`` and ``NA`` stay words.

    Args:
        path: the file.
        text_columns: columns that are text, even if every cell is a number.
        schema: the types of the columns (:func:`pipeline.science.data.kinds.schema`);
            other columns' types are inferred.

    Raises:
        PipelineError: a cell does not have its column's type in the schema.
    """
    types = {column["column"]: column["dtype"] for column in (schema or {}).get("columns", [])}
    texts = [name for name, dtype in types.items() if dtype in ("str", "bool")]
    table = _read_exactly(path, na_values=[""], dtype=dict.fromkeys([*text_columns, *texts], "str"))
    for name in table.columns.intersection(list(types)):
        column, dtype = table[name], types[name]
        if dtype == "bool":
            table[name] = _truth(column)
        elif dtype == "float" and is_numeric_dtype(column):
            table[name] = column.astype("float64")
        elif dtype != "str" and not is_numeric_dtype(column):
            wrong = pd.to_numeric(column, errors="coerce").isna() & column.notna()
            raise _mistyped(name, dtype, column[wrong])
    return table


def _truth(column: pd.Series) -> pd.Series:
    """Booleans from ``true`` and ``false``; of dtype object if values are missing, as in pandas."""
    values = column.str.lower().map({"true": True, "false": False})
    wrong = column[values.isna() & column.notna()]
    if not wrong.empty:
        raise _mistyped(str(column.name), "bool", wrong)
    return values.astype(object) if column.isna().any() else values.astype(bool)


def _mistyped(name: str, dtype: str, cells: pd.Series) -> PipelineError:
    return PipelineError(
        f"{name!r} is of type {dtype} by the table's schema.json, and holds {cells.iloc[0]!r}",
        "log the table with a schema that fits it, or without one",
    )


def read_cells(path: Path) -> pd.DataFrame:
    """Read a table written by :func:`write_table`, with each cell as text."""
    return pd.read_csv(path, dtype=object, na_filter=False)


def _read_exactly(path: Path, **csv_options: Any) -> pd.DataFrame:
    """``pd.read_csv`` that infers the type of a column from all of its cells.

    pandas reads large files in chunks and infers types for each chunk. If that could have changed
    a value, the file is read again with ``low_memory=False``, which is slower.
    """
    csv_options["keep_default_na"] = False
    with warnings.catch_warnings(action="ignore", category=pd.errors.DtypeWarning):
        table = pd.read_csv(path, **csv_options)
    for title in table:
        column = table[title]
        number = pd.api.types.is_float_dtype(column.dtype)
        if column.dtype == object or (number and column.abs().max() >= EXACT):
            return pd.read_csv(path, low_memory=False, **csv_options)
    return table


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table so that the same rows always give the same bytes."""
    csv_options = {"index": False, "encoding": "utf-8", "lineterminator": "\n"}
    frame.to_csv(path, **csv_options)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        unquoted = data.find(b"\r") >= 0
    if unquoted:  # the csv module does not quote \r, which would end a row when read again
        frame.to_csv(path, quoting=csv.QUOTE_NONNUMERIC, **csv_options)
    return path
