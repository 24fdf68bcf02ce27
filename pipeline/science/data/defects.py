"""Finds defects of a raw table: repeated headers, open quotes, spellings. Pure functions."""

import re
from collections.abc import Collection, Mapping

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype, is_string_dtype

from pipeline.core.errors import PipelineError
from pipeline.science.data.cells import DURATION
from pipeline.science.data.kinds import LONG, NEARLY, NO_VALUE, SAMPLE
from pipeline.science.data.tables import snake_case

# The second and third header row of an Orange table: the columns' types, and their roles
TYPES = re.compile(r"continuous|discrete|string|time|[cdst]|(\S+ )+\S+")
ROLES = re.compile(r"class|meta|ignore|[cmi]|")
TOTAL = re.compile(r"(grand |sub)?total:?|sum:?|average|mean|source:.*|note:.*|©.*", re.IGNORECASE)

INVISIBLE = "[\u00ad\u200b-\u200d\u2060\ufeff]"  # characters of no width
# A number and what follows it, such as a unit, but no date and no time
AMOUNT = re.compile(r"([+-]?\d[\d.,]*)\s*([^\d:/-].*)?")
AMOUNTS, UNITS = 10, 5  # more numbers, and at most so many units, are amounts
FAR = 100  # a value this many ranges of the other values away is likely a mistake
NINES = re.compile(r"-?9{2,}")  # -999 means no value if it is out of the range of the others


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
        if not is_string_dtype(column):
            continue
        lines += _units(column)
        if column.nunique() > len(column) / 2:
            continue
        words = pd.Series(column.dropna().unique(), dtype="str")
        visible = words.str.replace(INVISIBLE, "", regex=True).str.casefold()
        groups = words.groupby(visible.str.split().str.join(" ")).agg(list)
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


def _units(column: pd.Series) -> list[str]:
    """A warning about numbers that are text: of several units, or few durations."""
    words = column.dropna()
    if words.nunique() <= AMOUNTS:
        return []
    if words.head(SAMPLE).str.fullmatch(DURATION).mean() >= NEARLY:
        return [
            f"{column.name}: its cells are durations or times such as {words.iloc[0]!r}, and count "
            f"as words: etl.parse={{{column.name}: duration}} makes them numbers"
        ]
    if words.head(SAMPLE).str.fullmatch(AMOUNT).mean() < NEARLY:
        return []
    parts = words.str.extract(f"^(?:{AMOUNT.pattern})$")
    units = parts[1].dropna().unique()
    is_amount = parts[0].notna().mean() >= NEARLY and parts[0].nunique() > AMOUNTS
    if not is_amount or not 0 < len(units) <= UNITS:
        return []
    listed = ", ".join(map(repr, sorted(units)))
    return [
        f"{column.name}: its cells are numbers with {listed}, and count as words: write numbers "
        "of one unit in the data"
    ]


def number_warnings(table: pd.DataFrame) -> list[str]:
    """Warnings about numbers of a clean table that are far from all others of their column."""
    lines = []
    for name in table:
        column = table[name].dropna()
        if not is_numeric_dtype(column) or is_bool_dtype(column) or len(column) < LONG:
            continue
        values = column.astype("float64")
        for extreme in (values.min(), values.max()):
            rest = values[values != extreme]
            low, high = rest.min(), rest.max()
            gap = max(low - extreme, extreme - high)
            word = f"{extreme:.15g}"
            limit = (high - low) * (1 if NINES.fullmatch(word) else FAR)
            if gap <= limit or rest.nunique() < 3:
                continue
            lines.append(
                f"{name}: {word} (data row {values.index[values == extreme][0] + 1}) is far from "
                f"the other values, {low:g} to {high:g}: correct it, or, if it means no value, "
                f"set etl.missing=['{word}']"
            )
    return lines


def code_warnings(table: pd.DataFrame, missing: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Warnings about words that count as missing among codes of their form: NA, the country.

    Args:
        table: the clean table.
        missing: from :func:`pipeline.science.data.tables.missing_words`.
    """
    lines = []
    for title, counts in missing.items():
        codes = pd.Series(table[snake_case(title)].dropna().unique(), dtype="str")
        for word in counts:
            alike = codes.str.isalpha() & codes.str.isupper() & (codes.str.len() == len(word))
            if word.isalpha() and word.isupper() and alike.all() and len(codes) > 1:
                lines.append(
                    f"{title}: {counts[word]} cells {word!r} count as missing, among codes such "
                    f"as {codes[0]!r}: if {word} is a code, set etl.usual_missing=['']"
                )
    return lines


def resolve_columns(names: Collection[str], columns: Collection[str]) -> list[str]:
    """The names of columns that a setting gives by name or by title in the raw file."""
    return [name if name in columns else _by_title(name, columns) for name in names]


def _by_title(name: str, columns: Collection[str]) -> str:
    return snake_case(name) if snake_case(name) in columns else name
