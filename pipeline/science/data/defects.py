"""Finds defects of a raw table: repeated headers, open quotes, spellings. Pure functions."""

import re
from collections.abc import Collection

import pandas as pd
from pandas.api.types import is_string_dtype

from pipeline.core.errors import PipelineError
from pipeline.science.data.kinds import NO_VALUE
from pipeline.science.data.tables import snake_case

# The second and third header row of an Orange table: the columns' types, and their roles
TYPES = re.compile(r"continuous|discrete|string|time|[cdst]|(\S+ )+\S+")
ROLES = re.compile(r"class|meta|ignore|[cmi]|")
TOTAL = re.compile(r"(grand |sub)?total:?|sum:?|average|mean|source:.*|note:.*|©.*", re.IGNORECASE)


def without_headers(raw: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Drop rows that repeat the header or are a second header; the table, and notes on the rows."""
    titles = [str(title).strip() for title in raw]
    texts = [position for position, name in enumerate(raw) if is_string_dtype(raw[name])]
    if len(texts) < len(titles) or raw.empty:  # a repeated header would make each column text
        return raw, []
    is_header = pd.Series(True, raw.index)
    for position in texts:
        is_header &= (
            (raw.iloc[:, position].str.strip() == titles[position]).fillna(False).astype(bool)
        )
    notes = []
    if is_header.any():
        data_rows = ", ".join(str(index + 1) for index in raw.index[is_header][:3])
        notes.append(
            f"{int(is_header.sum())} row(s) repeat the header and are left out (row {data_rows})"
        )
        raw = raw[~is_header]
    first = [str(cell).strip() for cell in raw.iloc[0].fillna("")] if len(raw) > 2 else []
    second = [str(cell).strip() for cell in raw.iloc[1].fillna("")] if first else []
    types = sum(cell in ("continuous", "discrete", "string", "c", "d", "s") for cell in first)
    if types and types >= len(first) / 2 and all(map(TYPES.fullmatch, first)):
        count = 2 if all(map(ROLES.fullmatch, second)) else 1
        notes.append(f"the first {count} row(s) are headers of Orange's and are left out")
        raw = raw.iloc[count:]
    return raw, notes


def check_quotes(raw: pd.DataFrame, sep: str) -> None:
    """Refuse a cell that contains rows, because a quotation mark is not closed.

    Raises:
        PipelineError: names the column and the row.
    """
    width = raw.shape[1]
    for name in raw:
        if width < 2 or not is_string_dtype(raw[name]):
            continue
        column = raw[name]
        lines = column[column.str.contains("\n", regex=False).fillna(False).astype(bool)]
        for index, cell in lines.items():
            rows = sum(line.count(sep) == width - 1 for line in str(cell).splitlines()[1:-1])
            if rows > 0:
                raise PipelineError(
                    f"a cell of {str(name)!r} holds {rows} line(s) that look like rows (data row "
                    f"{index + 1}): a quotation mark is not closed",
                    "close it in the data, or take it out",
                )


def text_warnings(table: pd.DataFrame, filled: Collection[object] = ()) -> list[str]:
    """Warnings about the text of a clean table: spellings, missing values and a footer.

    Args:
        table: the clean table.
        filled: the values of ``etl.fill``, which are not reported as missing values.
    """
    lines = []
    for name in table:
        column = table[name]
        if not is_string_dtype(column) or column.nunique() > len(column) / 2:
            continue
        words = pd.Series(column.dropna().unique(), dtype="str")
        groups = words.groupby(words.str.casefold().str.split().str.join(" ")).agg(list)
        for spellings in groups[groups.str.len() > 1].head(3):
            listed = ", ".join(map(repr, sorted(spellings)))
            lines.append(f"{name}: {listed} differ in case or spaces only, and count as different")
        odd = [word for word in words if NO_VALUE.fullmatch(word) and word not in filled]
        if odd:
            count, listed = int(column.isin(odd).sum()), ",".join(f"'{word}'" for word in odd)
            lines.append(
                f"{name}: {count} cells look like missing values and count as words "
                f"(etl.missing=[{listed}])"
            )
    if len(table) > 2:
        last = [str(cell).strip() for cell in table.iloc[-1] if isinstance(cell, str)]
        if footer := next((cell for cell in last if TOTAL.fullmatch(cell)), None):
            lines.append(f"the last row ({footer!r}) looks like a total or a footer, and is kept")
    return lines


def resolve_columns(names: Collection[str], columns: Collection[str]) -> list[str]:
    """The names of columns that a setting gives by name or by title in the raw file."""
    return [name if name in columns else _by_title(name, columns) for name in names]


def _by_title(name: str, columns: Collection[str]) -> str:
    return snake_case(name) if snake_case(name) in columns else name
