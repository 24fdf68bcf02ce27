"""Reads CSV, Parquet, JSON and Excel files as tables, also from archives.

The format is detected from the content. Types that the file gives its columns are kept.
"""

import bz2
import gzip
import json
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pandas as pd
from pandas.api.types import (
    is_bool_dtype,
    is_datetime64_any_dtype,
    is_float_dtype,
    is_integer_dtype,
    is_string_dtype,
    is_timedelta64_dtype,
)

from pipeline.core.data.formats import detect_format, parquet_files, parquet_size
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.science import memory
from pipeline.science.data import cleaning, defects, tables
from pipeline.science.data.tables import EXACT, snake_case

CHUNK = 1 << 20
# Any: the type of the file object depends on the mode
PACKED: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
TYPED = ("parquet",)  # formats with explicit column types
# Errors of unpacking; RuntimeError: a password, or an unknown compression
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError, RuntimeError)


@dataclass(frozen=True)
class Raw:
    """A table as read from its file, with unchanged titles and cells.

    Attributes:
        table: the table.
        texts: names of columns of type text in the file, though all their cells are numbers.
        missing: by title, the words read as missing values, and their counts.
        notes: the decisions made while reading, a line each.
    """

    table: pd.DataFrame
    texts: list[str] = field(default_factory=list)
    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_parts(folder: Path) -> bool:
    """Whether a folder holds several Parquet files of a table, and nothing else."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files) > 1 and sorted(files) == parquet_files(folder)


def unpack(path: Path, folder: Path, part: str | None = None, free: int | None = None) -> Path:
    """The table's file, unpacked into a folder if it is packed.

    Args:
        path: the file, or a folder of Parquet parts.
        folder: the folder to unpack to, which is created.
        part: the file to take from an archive of several files.
        free: the bytes of memory that the table may take; None means the available memory.

    Raises:
        PipelineError: unpacking fails, ``part`` is missing for an archive of several files, or the
            table is larger than the memory.
    """
    file_format, free = detect_format(path), memory.available() if free is None else free
    if file_format not in (*PACKED, "zip"):
        check_size(path, size_of(path, file_format), free)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if file_format == "zip":
            target = _member(path, folder, part, free)
        else:
            target = folder / (path.stem if path.suffix else f"{path.name}.out")
            with PACKED[file_format](path, "rb") as packed, target.open("wb") as file:
                _copy(packed, file, path, free)
    except DAMAGED as error:
        raise PipelineError(
            f"{path.name} can't be unpacked: {error}", "check that the whole file was fetched"
        ) from error
    return unpack(target, folder / "inner", part, free)


def size_of(path: Path, file_format: str) -> int:
    """The size of a table's cells in bytes: of Parquet uncompressed, else of the file."""
    return parquet_size(path) if file_format == "parquet" else path.stat().st_size


def check_size(path: Path, size: int, free: int) -> None:
    """Refuse a table that is larger than the memory.

    Raises:
        PipelineError: names both sizes.
    """
    if size > free:
        raise PipelineError(
            f"{path.name} is a table of {memory.gib(size)} or more, and {memory.gib(free)} of "
            "memory are free",
            "take fewer rows or columns, by data.query from a database, or a larger machine",
        )


def _copy(packed: IO[bytes], file: IO[bytes], path: Path, free: int) -> None:
    while chunk := packed.read(CHUNK):
        file.write(chunk)
        check_size(path, file.tell(), free)


def _member(path: Path, folder: Path, part: str | None, free: int) -> Path:
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        names = [name for name in names if not name.startswith("__MACOSX/")]
        names = [name for name in names if not PurePosixPath(name).name.startswith(".")]
        if not names:
            raise PipelineError(f"{path.name} holds no file", "check that it is the right archive")
        name = select_part(part, names, f"the archive {path.name}", "files") if part else names[0]
        if len(names) != 1 and not part:
            raise PipelineError(
                f"{path.name} holds {len(names)} files: {', '.join(names[:8])}",
                f"say which one is the table: etl.table='{names[0]}'",
            )
        target = folder / PurePosixPath(name).name
        with archive.open(name) as packed, target.open("wb") as file:
            _copy(packed, file, path, free)
    return target


def select_part(part: str, names: Sequence[str], container: str, items: str) -> str:
    """The name that ``etl.table`` selects, by the full path or by the file name.

    Raises:
        PipelineError: no name matches.
    """
    matches = [name for name in names if part in (name, PurePosixPath(name).name)]
    if not matches:
        raise PipelineError(
            f"etl.table={part!r} is not in {container}{did_you_mean(part, names)}",
            f"its {items} are: {', '.join(names[:20])}",
        )
    return matches[0]


def read(
    path: Path,
    *,
    missing: Sequence[str] = ("",),
    usual_missing: Sequence[str] = (),
    text_columns: Sequence[str] = (),
    as_text: bool = False,
    sep: str | None = None,
    encoding: str | None = None,
    part: str | None = None,
) -> Raw:
    """Read a table in any supported format.

    Args:
        path: a file from :func:`unpack`, or a folder of Parquet parts.
        missing: cells that mean "no value".
        usual_missing: the words of ``missing`` to count and report.
        text_columns: names of columns to keep as text.
        as_text: keep all columns of a CSV file as text, for another number format.
        sep, encoding: the separator and the encoding of a CSV file.
        part: the sheet of a workbook, or the key of a JSON object.

    Raises:
        PipelineError: the file is not a table in its format.
    """
    file_format = detect_format(path)
    if file_format == "csv":
        table = tables.read_raw(path, sep, encoding, missing, text_columns, as_text)
        defects.check_quotes(table, tables.dialect(sep, encoding)[0])
        return Raw(table, missing=tables.missing_words(path, table, usual_missing, sep, encoding))
    if file_format not in READERS:
        raise PipelineError(
            f"{path.name} is a {file_format} file, which is not a table", "name another file"
        )
    try:
        table, notes = READERS[file_format](path, part)
    except PipelineError:
        raise
    except Exception as error:  # each library has its own errors
        message = " ".join(str(error).split())[:300]
        raise PipelineError(
            f"{path.name} can't be read as {file_format}: {message}",
            "check that the whole file was fetched",
        ) from error
    table = table.reset_index(drop=True).set_axis(map(str, table.columns), axis=1)
    _check_titles(path, table)
    binary = [name for name in table if _is_binary(table[name])]
    notes += [f"{name} holds bytes, such as images, and is left out" for name in binary]
    table = table.drop(columns=binary)
    table = pd.DataFrame({name: plain(table[name]) for name in table}, table.index)
    words = [name for name in table if is_string_dtype(table[name])]
    texts = []
    if file_format in TYPED:
        stripped = cleaning.strip_text(table[words], list(missing))
        texts = [
            name for name in words if not is_string_dtype(cleaning.read_column(stripped[name]))
        ]
    counted = {name: table[name].str.strip().value_counts() for name in words}
    reported_words = [word for word in usual_missing if word.strip()]
    gaps = {
        name: present
        for name, counts in counted.items()
        if (present := {word: int(counts[word]) for word in reported_words if word in counts})
    }
    return Raw(table, [snake_case(name) for name in texts], gaps, notes)


def write_csv(path: Path, target: Path, part: str | None = None, decimal: str = ".") -> list[str]:
    """Write a table of another format as CSV, with commas, in UTF-8; return notes on it.

    Args:
        path: a file from :func:`unpack`, or a folder of Parquet parts.
        target: the file to write.
        part: the sheet of a workbook, or the key of a JSON object.
        decimal: the decimal sign.

    Raises:
        PipelineError: the file is not a table.
    """
    raw = read(path, part=part)
    table = raw.table
    if decimal != ".":
        for name in table.select_dtypes("Float64"):
            table[name] = table[name].astype("string").str.replace(".", decimal)
    table.to_csv(target, index=False)
    return raw.notes


def _check_titles(path: Path, table: pd.DataFrame) -> None:
    duplicates = [title for title, count in Counter(table.columns).items() if count > 1]
    if duplicates:
        raise PipelineError(
            f"{path.name} has several columns titled {', '.join(map(repr, duplicates[:5]))}",
            "rename them in the data",
        )
    if not len(table):
        raise PipelineError(f"{path.name} has no rows", "check data.file_url")


def _is_binary(column: pd.Series) -> bool:
    return column.dtype == object and any(
        isinstance(value, bytes | bytearray) for value in column.dropna().head(10)
    )


def plain(column: pd.Series) -> pd.Series:
    """A column as if read from CSV: numbers, booleans or text.

    Dates become ISO 8601 text. Integers that a float does not hold exactly become text.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if column.dtype == object:
        column = _from_objects(column)
    if is_bool_dtype(column):
        return column.astype("boolean")
    if is_integer_dtype(column):
        large = (column < -EXACT) | (column > EXACT)
        return column.astype("string" if large.fillna(False).any() else "Int64")
    if is_float_dtype(column):
        return column.astype("Float64")
    if is_timedelta64_dtype(column):
        return (column / pd.Timedelta(seconds=1)).astype("Float64")
    if is_datetime64_any_dtype(column):
        only_dates = (
            column.dt.tz is None and (column.dropna() == column.dropna().dt.normalize()).all()
        )
        date_format = (
            "%Y-%m-%d"
            if only_dates
            else "%Y-%m-%dT%H:%M:%S" + ("" if column.dt.tz is None else "%z")
        )
        return column.dt.strftime(date_format).astype("string")
    return column.astype("string")


def _from_objects(column: pd.Series) -> pd.Series:
    values = column.dropna()
    kinds = {type(value) for value in values}
    if kinds and kinds <= {bool}:
        return column.astype("boolean")
    if kinds and kinds <= {int, float, Decimal}:
        numbers = column.map(float, na_action="ignore") if kinds != {int} else column
        large = kinds == {int} and values.map(abs).max() > EXACT
        return column.astype("string") if large else numbers.astype("Float64").convert_dtypes()
    if kinds and all(hasattr(kind, "isoformat") for kind in kinds):
        return column.map(lambda value: value.isoformat(), na_action="ignore").astype("string")
    return column.map(_text, na_action="ignore").astype("string")


def _text(value: Any) -> str:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _read_parquet(path: Path, _: str | None) -> tuple[pd.DataFrame, list[str]]:
    if path.is_dir() and not parquet_files(path):
        raise PipelineError(f"{path.name} has no .parquet files", "check data.file_url")
    table = pd.read_parquet(path, dtype_backend="numpy_nullable")
    index_names = [name for name in table.index.names if name is not None]
    return table.reset_index(drop=not index_names), []


def _read_excel(path: Path, part: str | None) -> tuple[pd.DataFrame, list[str]]:
    with pd.ExcelFile(path, engine="calamine") as book:
        names = [str(name) for name in book.sheet_names]
        name = select_part(part, names, f"the workbook {path.name}", "sheets") if part else names[0]
        cells = book.parse(name, header=None, keep_default_na=False, na_values=[""])
    notes = []
    if len(names) > 1 and not part:
        notes = [f"the sheet {name!r} is read; others: {', '.join(names[1:9])} (etl.table=NAME)"]
    cells = cells.dropna(how="all").dropna(how="all", axis=1).reset_index(drop=True)
    if cells.empty:
        raise PipelineError(f"the sheet {name!r} of {path.name} is empty", "set etl.table")
    titles = cells.iloc[0]
    if titles.isna().any():
        raise PipelineError(
            f"the first row of the sheet {name!r} is no header: {int(titles.isna().sum())} of its "
            f"{len(titles)} cells are empty",
            "give each column a title, and take out what stands above them",
        )
    table = cells.iloc[1:].infer_objects().reset_index(drop=True)
    return table.set_axis([str(title).strip() for title in titles], axis=1), notes


def _read_json(path: Path, part: str | None) -> tuple[pd.DataFrame, list[str]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        rows = []
        for number, line in enumerate(text.splitlines()):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                raise PipelineError(
                    f"line {number + 1} of {path.name} is not JSON: {error}", "correct the data"
                ) from error
        content = rows
    notes: list[str] = []
    if isinstance(content, dict) and not {"columns", "data"} <= content.keys():
        lists = [name for name, value in content.items() if _is_rows(value)]
        if part or (lists and len(lists) < len(content)) or len(lists) == 1:
            name = select_part(part, [*content], path.name, "keys") if part else lists[0]
            notes = [f"the rows are read from {name!r} (etl.table)"]
            content = content[name]
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return pd.json_normalize(content), notes
    if isinstance(content, list) and content and all(isinstance(row, list) for row in content):
        if not all(isinstance(title, str) for title in content[0]):
            raise PipelineError(
                f"the first row of {path.name} is no header: {content[0][:5]}",
                "put a row of titles before it, or write objects: [{...}, {...}]",
            )
        return pd.DataFrame(content[1:], columns=content[0]), notes
    if isinstance(content, dict) and {"columns", "data"} <= content.keys():
        return pd.DataFrame(content["data"], columns=content["columns"]), notes
    if isinstance(content, dict) and all(
        isinstance(value, dict | list) for value in content.values()
    ):
        rows_first = all(name.isdecimal() for name in content) and not lists
        return pd.DataFrame.from_dict(content, orient="index" if rows_first else "columns"), notes
    raise PipelineError(
        f"{path.name} is JSON, but not a table",
        "write it as a list of objects, [{...}, {...}], or one object a line",
    )


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


READERS = {"parquet": _read_parquet, "excel": _read_excel, "json": _read_json}
