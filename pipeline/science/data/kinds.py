"""The schema of a table: the kinds of its columns, inferred once and stored beside the table."""

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

NEARLY = 0.9  # share of numbers from which on the other cells are likely mistakes
SHOWN = 5
# Cells that mean "no value" anywhere; and cells that mean it among numbers, else may be words
NO_VALUE = re.compile(
    r"[?*.-]+|#?n/?an?|null|missing|un(defined|specified)|not available"
    r"|#(value|num|ref|name|null)[!?]|#div/0!",
    re.IGNORECASE,
)
NO_NUMBER = re.compile(
    rf"{NO_VALUE.pattern}|nil|none|unknown|tb[da]|x+|[+-]?inf(inity)?|empty|blank|void",
    re.IGNORECASE,
)
TWO_NOTATIONS = (
    "some of them have the comma as etl.decimal, others as etl.thousands, and a table has one of "
    "each: write the columns alike in the data, or keep one as text: "
    "etl.schema=[{column: NAME, dtype: str}]"
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
DATES, UNIQUE = 0.95, 0.98  # minimum shares of dates, of distinct cells
LONG, SAMPLE = 20, 200  # minimum of rows to infer an identifier; rows to sample
HIGH, WORDS = 40, 4  # above HIGH a category is "many"; from WORDS per cell it is free text
CATEGORIES = 100  # maximum of categories that the schema lists


def schema(table: pd.DataFrame, rules: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The schema of a clean table, which is stored beside it.

    Args:
        table: the clean table.
        rules: ``etl.schema``, which may set the ``kind`` of columns.

    Returns:
        ``missing``, the cells that mean "no value" in the file; and ``columns``: for each its
        name (``column``), ``dtype`` (int, float, str, bool) and ``kind``, its ``categories`` if
        there are few, and the ``format`` of dates.
    """
    kind_by_rule = {rule["column"]: rule["kind"] for rule in rules if rule.get("kind")}
    columns = [_column(table[name], kind_by_rule.get(str(name))) for name in table]
    return {"missing": [""], "columns": columns}


def _column(column: pd.Series, rule_kind: str | None) -> dict[str, Any]:
    column_kind = rule_kind or kind(column)
    entry: dict[str, Any] = {"column": column.name, "kind": column_kind, "dtype": dtype(column)}
    if column_kind == "category" and entry["dtype"] == "str" and column.nunique() <= CATEGORIES:
        entry["categories"] = sorted(column.dropna().unique().tolist())
    if column_kind == "date":
        entry["format"] = (date_format(column) or ("ISO8601", False))[0]
    return entry


def dtype(column: pd.Series) -> str:
    """A column's dtype as ``etl.schema`` names it: int, float, str or bool."""
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
    """Whether a column of a clean table is text."""
    return bool(is_string_dtype(column))


def kind(column: pd.Series) -> str:
    """The kind of a column, one of :data:`pipeline.science.data.cleaning.KINDS`."""
    filled, column_dtype = column.dropna(), dtype(column)
    if filled.empty:
        return "empty"
    if len(column) > 1 and filled.nunique() == 1 and len(filled) == len(column):
        return "constant"
    if column_dtype == "bool":
        return "truth"
    if date_format(column):
        return "date"
    if column_dtype != "str":
        return "identifier" if column_dtype == "int" and _numbers_rows(column) else "number"
    distinct = filled.nunique()
    if len(filled) >= LONG and distinct >= UNIQUE * len(filled):
        words = filled.head(SAMPLE).str.split().str.len().mean()
        return "text" if words >= WORDS else "identifier"
    words = filled.head(SAMPLE).str.split().str.len().mean()
    if distinct > HIGH and words >= WORDS and distinct > len(filled) / 2:
        return "text"
    return "many" if distinct > HIGH else "category"


def _numbers_rows(column: pd.Series) -> bool:
    """Whether integers only number the rows: 1 to n, or distinct under a title such as ``id``."""
    if len(column) < LONG or column.isna().any() or not column.is_unique:
        return False
    first, last = int(column.min()), int(column.max())
    has_id_title = re.fullmatch(
        r"(.*_)?(id|index|idx|row|rownames|nr|no|unnamed_\d+)", str(column.name)
    )
    consecutive = last - first == len(column) - 1 and first in (0, 1)
    return bool(has_id_title) or (consecutive and column.is_monotonic_increasing)


def date_format(column: pd.Series) -> tuple[str, bool] | None:
    """The format of a date column, and whether another format fits as well; else None."""
    filled = column.dropna()
    if dtype(column) == "int":
        if len(filled) < 3 or not filled.between(19000101, 21001231).all() or filled.nunique() < 3:
            return None
        words = filled.astype("int64").astype("str")
        is_date = pd.to_datetime(words, format="%Y%m%d", errors="coerce").notna().all()
        return ("%Y%m%d", False) if is_date else None
    if dtype(column) != "str" or not filled.head(SAMPLE).str.contains(DATE).all():
        return None
    fits = []
    for candidate in FORMATS:
        sample = pd.to_datetime(filled.head(5), format=candidate, errors="coerce", utc=True)
        if sample.notna().any():
            parsed = pd.to_datetime(filled, format=candidate, errors="coerce", utc=True)
            if parsed.notna().mean() >= DATES:
                fits.append(candidate)
    return (fits[0], len(fits) > 1) if fits else None


def features(
    table_schema: Mapping[str, Any],
    target: str | Sequence[str],
    drop: Collection[str],
    categorical: Collection[str],
) -> tuple[dict[str, str], dict[str, str]]:
    """The kind of each feature in a schema, a date's with its format; and the useless columns.

    Args:
        table_schema: the schema.
        target: the column to predict, or several.
        drop: columns that are not features.
        categorical: columns that are categories, whatever the schema says.

    Returns:
        A mapping of feature to kind, and of useless column to the reason.
    """
    kinds, useless = {}, {}
    for column in table_schema["columns"]:
        name, column_kind = column["column"], column.get("kind", "")
        if name in drop or name in ([target] if isinstance(target, str) else target):
            continue
        if name in categorical:
            column_kind = "category"
        if column_kind in USELESS:
            useless[name] = USELESS[column_kind]
        else:
            kinds[name] = f"date {column['format']}" if column_kind == "date" else column_kind
    return kinds, useless


def expand(table: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Features as a model takes them: dates as their parts, text without missing values."""
    if not any(map(_is_expanded, kinds.values())):
        return table
    parts = []
    for name in table:
        column_kind = kinds.get(str(name), "")
        if column_kind.startswith("date "):
            parts.append(cells.date_parts(table[name], column_kind.removeprefix("date ")))
        else:
            parts.append(table[[name]].fillna("") if column_kind == "text" else table[[name]])
    return pd.concat(parts, axis=1)


def _is_expanded(column_kind: str) -> bool:
    return column_kind == "text" or column_kind.startswith("date ")


def check_numbers(
    table: pd.DataFrame, ruled: Collection[str] = (), numbers: Mapping[str, Any] | None = None
) -> None:
    """Refuse text columns that are nearly numeric: a few odd cells, or another number format.

    Args:
        table: the clean table.
        ruled: columns whose dtype the user has set.
        numbers: the number format, see :func:`pipeline.science.data.cleaning.clean`.

    Raises:
        PipelineError: names the columns, the cells, and the settings that read them.
    """
    free = table.columns.difference([*ruled], sort=False)
    odd_by_column = odd_columns(table[free], numbers or {})
    if not odd_by_column:
        return
    settings = dict.fromkeys(
        chain.from_iterable(remedies for _, remedies in odd_by_column.values())
    )
    lines = [
        "columns of numbers have cells that are not numbers:",
        *(line for line, _ in odd_by_column.values()),
    ]
    raise PipelineError(
        "\n  ".join(lines),
        f"set {' '.join(settings)}; or, if the words are meant, "
        f"etl.schema=[{{column: {next(iter(odd_by_column))}, dtype: str}}]",
    )


def odd_columns(
    table: pd.DataFrame, numbers: Mapping[str, Any]
) -> dict[str, tuple[str, list[str]]]:
    """The text columns that are nearly numeric, with the result of :func:`odd_cells`.

    Args:
        table: the clean table.
        numbers: the number format, see :func:`pipeline.science.data.cleaning.clean`.

    Raises:
        PipelineError: a comma is the decimal sign of one column, and groups another's digits.
    """
    texts = [name for name in table if is_text(table[name])]
    odd = {name: found for name in texts if (found := odd_cells(table[name], numbers))}
    words = {word for _, settings in odd.values() for text in settings for word in text.split()}
    words |= {f"etl.{key}='{sign}'" for key, sign in numbers.items() if sign == ","}
    if {"etl.decimal=','", "etl.thousands=','"} <= words:
        lines = [line for line, _ in odd.values()]
        raise PipelineError(
            "\n  ".join(["numbers are written in two ways:", *lines]), TWO_NOTATIONS
        )
    return odd


def odd_cells(column: pd.Series, numbers: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The cells that keep a text column from being numeric, and the settings that read them.

    None if the column is not nearly numeric.
    """
    words = column.dropna()
    decimal, thousands = numbers.get("decimal") or ".", numbers.get("thousands") or ""
    written = cells.plain(words, decimal, thousands)
    odd = words[pd.to_numeric(written, errors="coerce").isna()]
    numeric = words.drop(odd.index)
    if odd.empty or len(words) < 3:
        return None
    no_value = odd[odd.str.fullmatch(NO_NUMBER)]
    unreadable = odd.drop(no_value.index)
    name, settings, readable = column.name, [], no_value.index
    if len(no_value):
        settings.append(f"etl.missing={_yaml_list(no_value.unique())}")
    for setting, index in _number_settings(unreadable, decimal):
        settings.append(setting.format(name=name))
        readable = readable.union(index)
    unreadable = odd.drop(readable)
    amounts = pd.concat([numeric, odd.drop(unreadable.index).drop(no_value.index, errors="ignore")])
    if amounts.nunique() < 3 or (len(words) - len(unreadable)) / len(words) < NEARLY:
        return None
    if len(amounts) / len(words) < NEARLY and len(amounts) < len(words) / 3:
        return None
    if not unreadable.empty:
        settings.append(
            f"etl.missing={_yaml_list(unreadable.unique()[:SHOWN])} if they mean no value"
        )
    examples = ", ".join(map(repr, odd.unique()[:SHOWN]))
    data_rows = ", ".join(str(index + 1) for index in odd.index[:3])
    count = f"{len(odd)} of {len(words)} cells"
    return f"{name}: {count} are not numbers: {examples} (data row {data_rows})", settings


def _number_settings(odd: pd.Series, decimal: str) -> list[tuple[str, pd.Index]]:
    """The settings that read odd cells as numbers, each with the index of its cells."""
    settings = []
    commas = odd[odd.str.fullmatch(r"[+-]?\d+,\d+")]
    groups = odd[odd.str.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")]
    european = odd[odd.str.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")]
    decimal_comma = european.index.union(commas.index)
    if decimal == "." and len(european) and len(decimal_comma) > len(groups):
        settings.append(("etl.decimal=',' etl.thousands='.'", decimal_comma))
    elif len(groups) >= len(commas) > 0 or len(groups):
        settings.append(("etl.thousands=','", groups.index))
    elif decimal == "." and len(commas):
        settings.append(("etl.decimal=','", commas.index))
    for form in ("number", "percent", "currency", "unit", "duration"):
        unread = odd.drop([row for _, index in settings for row in index], errors="ignore")
        parsed = cells.plain(unread, decimal, "", form)
        readable = unread[pd.to_numeric(parsed, errors="coerce").notna()]
        if form == "unit":
            units = readable.str.extract(f"({cells.DECORATIONS['unit']})")[0].str.strip()
            readable = readable if units.nunique() == 1 else readable.iloc[:0]
        if form == "duration" and readable.nunique() <= HIGH:
            continue  # such as opening hours, which are categories
        if len(readable):
            settings.append((f"etl.parse={{{{{{name}}: {form}}}}}", readable.index))
    return settings


def _yaml_list(words: Any) -> str:
    return "[" + ",".join(f"'{word}'" for word in words) + "]"


def notes(
    table: pd.DataFrame, ruled: Collection[str], missing: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Notes on the columns of a clean table: numbers kept as text, and cells read as missing.

    Args:
        table: the clean table.
        ruled: columns whose dtype the user has set.
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
        counted = ", ".join(f"{count} cells {word!r}" for word, count in counts.items())
        lines.append(
            f"{snake_case(title)}: {counted} count as missing (etl.usual_missing=[''] keeps words)"
        )
    return lines


def read(path: Path, stored: Mapping[str, Any] | None) -> dict[str, Any]:
    """A table's stored schema, else a schema inferred from its cells."""
    return dict(stored) if stored is not None else schema(read_table(path))


def write(table: pd.DataFrame, table_schema: Mapping[str, Any], folder: Path, name: str) -> Path:
    """Write a table and its schema to a folder for one artifact, and return the folder."""
    target = folder / name
    target.mkdir(parents=True)
    write_table(table, target / name)
    text = json.dumps(table_schema, indent=1, ensure_ascii=False) + "\n"
    (target / SCHEMA_FILE).write_text(text, encoding="utf-8")
    return target
