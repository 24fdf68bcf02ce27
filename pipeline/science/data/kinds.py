"""What the columns of a table hold: recognised once, written beside it, and read from there."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_float_dtype, is_numeric_dtype, is_string_dtype

from pipeline.core.errors import PipelineError
from pipeline.core.files import SCHEMA_FILE
from pipeline.science.data import cells
from pipeline.science.data.tables import code, read_table, snake_case, write_table

NEARLY = 0.9  # of a column's cells are numbers: the others are likely mistakes
SHOWN = 5
# What people write where there is no value; and what means that among numbers, and may be a word
NO_VALUE = re.compile(
    r"[?*.-]+|#?n/?an?|null|missing|un(defined|specified)|not available"
    r"|#(value|num|ref|name|null)[!?]|#div/0!",
    re.IGNORECASE,
)
NO_NUMBER = re.compile(
    rf"{NO_VALUE.pattern}|nil|none|unknown|tb[da]|x+|[+-]?inf(inity)?|empty|blank|void",
    re.IGNORECASE,
)
USELESS = {
    "identifier": "it is different in each row, so it says nothing about new ones",
    "empty": "it is empty",
}
DATE = re.compile(r"^\s*\S*\d.*[-/. ].*\d")
_DAYS = ("%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y",
         "%m/%d/%y", "%d/%m/%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y",
         "%d-%b-%y")  # fmt: skip
FORMATS = ("ISO8601", *(f"{day}{time}" for time in ("", " %H:%M", " %H:%M:%S") for day in _DAYS))
DATES, UNIQUE = 0.95, 0.98  # shares of the cells that are dates, or all different
LONG, SAMPLE = 20, 200  # rows from which on unique values tell something; rows that are looked at
HIGH, WORDS = 40, 4  # categories that are many; words in a cell of free text
CATEGORIES = 100  # a column of words with more of them lists none in the schema


def schema(table: pd.DataFrame, rules: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The types of a clean table's columns, as they are written beside it.

    Args:
        table: the clean table.
        rules: ``etl.schema``, which may give columns their ``kind``.

    Returns:
        ``missing``, the cells that mean "no value" in the file; and ``columns``: for each its
        name (``column``), its ``dtype`` (int, float, str, bool) and its ``kind``, the
        ``categories`` of one with few, and the ``format`` of dates.
    """
    given = {rule["column"]: rule["kind"] for rule in rules if rule.get("kind")}
    columns = [_column(table[name], given.get(str(name))) for name in table]
    return {"missing": [""], "columns": columns}


def _column(column: pd.Series, given: str | None) -> dict[str, Any]:
    found = given or kind(column)
    told: dict[str, Any] = {"column": column.name, "kind": found, "dtype": dtype(column)}
    if found == "category" and told["dtype"] == "str" and column.nunique() <= CATEGORIES:
        told["categories"] = sorted(column.dropna().unique().tolist())
    if found == "date":
        told["format"] = (date_format(column) or ("ISO8601", False))[0]
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


def is_text(column: pd.Series) -> bool:
    """Whether a column of a clean table holds words."""
    return bool(is_string_dtype(column))


def kind(column: pd.Series) -> str:
    """What a column holds, one of :data:`pipeline.science.data.cleaning.KINDS`."""
    filled, of = column.dropna(), dtype(column)
    if filled.empty:
        return "empty"
    if len(column) > 1 and filled.nunique() == 1 and len(filled) == len(column):
        return "constant"
    if of == "bool":
        return "truth"
    if date_format(column):
        return "date"
    if of != "str":
        return "identifier" if of == "int" and _numbers_rows(column) else "number"
    distinct = filled.nunique()
    if len(filled) >= LONG and distinct >= UNIQUE * len(filled):
        words = filled.head(SAMPLE).str.split().str.len().mean()
        return "text" if words >= WORDS else "identifier"
    words = filled.head(SAMPLE).str.split().str.len().mean()
    if distinct > HIGH and words >= WORDS and distinct > len(filled) / 2:
        return "text"
    return "many" if distinct > HIGH else "category"


def _numbers_rows(column: pd.Series) -> bool:
    """Whether whole numbers only number the rows: 1 to n, or all different under such a title."""
    if len(column) < LONG or column.isna().any() or not column.is_unique:
        return False
    first, last = int(column.min()), int(column.max())
    named = re.fullmatch(r"(.*_)?(id|index|idx|row|rownames|nr|no|unnamed_\d+)", str(column.name))
    consecutive = last - first == len(column) - 1 and first in (0, 1)
    return bool(named) or (consecutive and column.is_monotonic_increasing)


def date_format(column: pd.Series) -> tuple[str, bool] | None:
    """The format of a column of dates, and whether another one fits as well; None for others."""
    filled = column.dropna()
    if dtype(column) == "int":
        if len(filled) < 3 or not filled.between(19000101, 21001231).all() or filled.nunique() < 3:
            return None
        words = filled.astype("int64").astype("str")
        good = pd.to_datetime(words, format="%Y%m%d", errors="coerce").notna().all()
        return ("%Y%m%d", False) if good else None
    if dtype(column) != "str" or not filled.head(SAMPLE).str.contains(DATE).all():
        return None
    fits = []
    for form in FORMATS:
        few = pd.to_datetime(filled.head(5), format=form, errors="coerce", utc=True)
        if few.notna().any():
            read = pd.to_datetime(filled, format=form, errors="coerce", utc=True)
            if read.notna().mean() >= DATES:
                fits.append(form)
    return (fits[0], len(fits) > 1) if fits else None


def features(
    known: Mapping[str, Any],
    target: str | Sequence[str],
    drop: Collection[str],
    categorical: Collection[str],
) -> tuple[dict[str, str], dict[str, str]]:
    """The kind of each feature that a schema names, a date's with its format; and what is left out.

    Args:
        known: the schema.
        target: the column to predict, or several.
        drop: columns that are not features.
        categorical: columns that are categories, whatever the schema says.

    Returns:
        Feature to kind; and column to the reason why it is no feature.
    """
    kinds, useless = {}, {}
    for column in known["columns"]:
        name, found = column["column"], column.get("kind", "")
        if name in drop or name in ([target] if isinstance(target, str) else target):
            continue
        if name in categorical:
            found = "category"
        if found in USELESS:
            useless[name] = USELESS[found]
        else:
            kinds[name] = f"date {column['format']}" if found == "date" else found
    return kinds, useless


def expand(table: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Features as a model takes them: dates as their parts, text without gaps."""
    if not any(map(_is_expanded, kinds.values())):
        return table
    parts = []
    for name in table:
        found = kinds.get(str(name), "")
        if found.startswith("date "):
            parts.append(cells.date_parts(table[name], found.removeprefix("date ")))
        else:
            parts.append(table[[name]].fillna("") if found == "text" else table[[name]])
    return pd.concat(parts, axis=1)


def _is_expanded(found: str) -> bool:
    return found == "text" or found.startswith("date ")


def check_numbers(
    table: pd.DataFrame, ruled: Collection[str] = (), numbers: Mapping[str, Any] | None = None
) -> None:
    """Refuse columns of numbers that a few odd cells, or a way of writing them, would make words.

    Args:
        table: the clean table.
        ruled: columns whose type is settled.
        numbers: how numbers are written, see :func:`pipeline.science.data.cleaning.clean`.

    Raises:
        PipelineError: names the columns, the cells, and the settings that read them.
    """
    free = table.columns.difference([*ruled], sort=False)
    texts = [name for name in free if is_string_dtype(table[name])]
    cells = ((name, odd_cells(table[name], numbers or {})) for name in texts)
    found = {name: odd for name, odd in cells if odd}
    if not found:
        return
    settings = dict.fromkeys(chain.from_iterable(remedies for _, remedies in found.values()))
    lines = ["columns of numbers have cells that are none:", *(line for line, _ in found.values())]
    raise PipelineError(
        "\n  ".join(lines),
        f"set {' '.join(settings)}; or, if the words are meant, "
        f"etl.schema=[{{column: {next(iter(found))}, dtype: str}}]",
    )


def odd_cells(column: pd.Series, numbers: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """What keeps a column of words from being numbers, and the settings that read it.

    None where it is not nearly one of numbers.
    """
    words = column.dropna()
    decimal, thousands = numbers.get("decimal") or ".", numbers.get("thousands") or ""
    written = cells.plain(words, decimal, thousands)
    odd = words[pd.to_numeric(written, errors="coerce").isna()]
    good = words.drop(odd.index)
    if odd.empty or len(words) < 3:
        return None
    no_value = odd[odd.str.fullmatch(NO_NUMBER)]
    rest = odd.drop(no_value.index)
    name, settings, readable = column.name, [], no_value.index
    if len(no_value):
        settings.append(f"etl.missing={_list(no_value.unique())}")
    for setting, index in _ways(rest, decimal):
        settings.append(setting.format(name=name))
        readable = readable.union(index)
    rest = odd.drop(readable)
    amounts = pd.concat([good, odd.drop(rest.index).drop(no_value.index, errors="ignore")])
    if amounts.nunique() < 3 or (len(words) - len(rest)) / len(words) < NEARLY:
        return None
    if len(amounts) / len(words) < NEARLY and len(amounts) < len(words) / 3:
        return None
    if not rest.empty:
        settings.append(f"etl.missing={_list(rest.unique()[:SHOWN])} if they mean no value")
    shown = ", ".join(map(repr, odd.unique()[:SHOWN]))
    places = ", ".join(str(index + 1) for index in odd.index[:3])
    line = f"{name}: {len(odd)} of {len(words)} cells are no numbers: {shown} (data row {places})"
    return line, settings


def _ways(odd: pd.Series, decimal: str) -> list[tuple[str, pd.Index]]:
    """The settings that read odd cells as numbers, and the cells that each one reads."""
    found = []
    commas = odd[odd.str.fullmatch(r"[+-]?\d+,\d+")]
    groups = odd[odd.str.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")]
    european = odd[odd.str.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")]
    if decimal == "." and len(european) and len(european.index.union(commas.index)) > len(groups):
        found.append(("etl.decimal=',' etl.thousands='.'", european.index.union(commas.index)))
    elif len(groups) >= len(commas) > 0 or len(groups):
        found.append(("etl.thousands=','", groups.index))
    elif decimal == "." and len(commas):
        found.append(("etl.decimal=','", commas.index))
    for how in ("number", "percent", "currency", "unit"):
        left = odd.drop([place for _, index in found for place in index], errors="ignore")
        read = cells.plain(left, decimal, "", how)
        reads = left[pd.to_numeric(read, errors="coerce").notna()]
        if how == "unit":
            units = reads.str.extract(f"({cells.DECORATIONS['unit']})")[0].str.strip()
            reads = reads if units.nunique() == 1 else reads.iloc[:0]
        if len(reads):
            found.append((f"etl.parse={{{{{{name}}: {how}}}}}", reads.index))
    return found


def _list(words: Any) -> str:
    return "[" + ",".join(f"'{word}'" for word in words) + "]"


def notes(
    table: pd.DataFrame, ruled: Collection[str], missing: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """What was decided about the columns of a clean table, one line each.

    Args:
        table: the clean table.
        ruled: columns whose type the user has settled.
        missing: from :func:`pipeline.science.data.tables.missing_words`.
    """
    lines = []
    for name in table.columns.difference([*ruled], sort=False):
        words = table[name].dropna()
        if not is_string_dtype(words) or words.empty:
            continue
        if pd.to_numeric(words, errors="coerce").notna().all():
            why = code(words) or "the type text in the file"
            lines.append(
                f"{name}: its numbers have {why} ({words.iloc[0]}), so they are kept as text "
                f"(etl.schema=[{{column: {name}, dtype: float}}] makes them numbers)"
            )
    for title, counts in missing.items():
        told = ", ".join(f"{count} cells {word!r}" for word, count in counts.items())
        lines.append(
            f"{snake_case(title)}: {told} count as missing (etl.usual_missing=[''] keeps words)"
        )
    return lines


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
