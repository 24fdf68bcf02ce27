"""Cleans a raw table and validates it against a schema. Pure functions."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandas.api.types import is_float_dtype, is_number, is_numeric_dtype, is_string_dtype

from pipeline.core.errors import PipelineError, did_you_mean, unknown_value

# relative, as a copy of these files is stored with each model, see model_files
from .cells import DECORATIONS, plain
from .cells import date_parts as date_parts  # for prediction with a copy
from .tables import code, snake_case

DTYPES = {"int": "Int64", "float": "Float64", "str": "string", "bool": "boolean"}
RULES = ("kind", "column", "dtype", "min", "max", "values", "unique", "nullable")
# The kinds of columns; identifiers and empty columns can't be features
KINDS = ("number", "truth", "category", "many", "date", "text", "identifier", "constant", "empty")
TRUTH = ("true", "false")
DUPLICATES = ("keep", "drop")
SHOWN = 20
MANY = 0.1  # share of dropped rows above which their note is a warning


def clean(
    raw: pd.DataFrame,
    required: list[str] | None,
    fill: dict[str, Any],
    text_columns: Sequence[str] = (),
    missing: Sequence[str] = (),
    *,
    duplicates: str = "keep",
    numbers: dict[str, Any] | None = None,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Normalize titles and cells, and handle missing values and equal rows.

    Cleaning is idempotent, except for ``numbers``.

    Args:
        raw: the table as read; it is not changed.
        required: columns in which each row must have a value; None: all columns not in ``fill``.
        fill: the value for missing cells, per column.
        text_columns: columns that stay text, even if every cell is a number.
        missing: words that mean "no value", as an empty cell always does.
        duplicates: ``keep`` equal rows, or ``drop`` all but the first.
        numbers: the number format: ``decimal``, ``thousands``, and ``parse`` by column.

    Returns:
        The clean table, whose index is the rows' positions in ``raw``; and the number of rows
        dropped for each reason.

    Raises:
        PipelineError: two titles become one name, the table lacks a required column, a fill has
            the wrong type, or no row is left.
    """
    if raw.empty:
        raise PipelineError("the table has a header and no rows", "check data.file_url")
    if duplicates not in DUPLICATES:
        raise unknown_value("etl.duplicates", duplicates, DUPLICATES)
    table = strip_text(tidy_titles(raw), missing)
    table = plain_numbers(table, numbers or {}, text_columns)
    table = read_types(table, text_columns)
    table = fill_missing(table, fill)
    if required is None:
        required = [column for column in table if column not in fill]
    dropped: dict[str, int] = {}
    for column in required:
        if column not in table:
            raise unknown_column("etl.required", column, table)
        gaps = table[column].isna()
        if gaps.any():
            dropped[f"missing {column}"] = int(gaps.sum())
            table = table[~gaps]
    if table.empty:
        raise PipelineError(
            f"no row is left of {len(raw)}; dropped: {dropped}",
            "list fewer columns in etl.required, or give a value in etl.fill",
        )
    table = read_types(table, text_columns)  # a dropped row may have had a column's only word
    if duplicates == "drop":
        is_duplicate = table.duplicated()
        if is_duplicate.any():
            dropped["duplicate"] = int(is_duplicate.sum())
            table = table[~is_duplicate]
    return table, dropped


def dropped_rows(dropped: Mapping[str, int], rows: int) -> list[tuple[str, bool]]:
    """Notes on the rows without a required value, which are dropped, and whether they are many.

    Args:
        dropped: the number of rows for each reason, from :func:`clean`.
        rows: the number of rows before.
    """
    return [
        (
            f"{count} of {rows} rows are dropped: {reason} (etl.required lists the columns that "
            "need a value, and etl.fill fills others)",
            count > MANY * rows,
        )
        for reason, count in dropped.items()
        if reason != "duplicate"
    ]


def equal_rows(table: pd.DataFrame, dropped: dict[str, int]) -> list[str]:
    """A note on equal rows, if there are any."""
    if "duplicate" in dropped:
        return [f"{dropped['duplicate']} rows equal to an earlier one are dropped"]
    count = int(table.duplicated().sum())
    line = f"{count} of {len(table)} rows are equal to an earlier one, and kept"
    return [f"{line} (etl.duplicates=drop drops them)"] if count else []


def plain_numbers(
    table: pd.DataFrame, numbers: dict[str, Any], text_columns: Sequence[str]
) -> pd.DataFrame:
    """The table with numbers in Python's notation: ``1.234,5`` becomes ``1234.5``.

    Raises:
        PipelineError: ``parse`` names an unknown column or form, or cells are not such numbers.
    """
    decimal, thousands = numbers.get("decimal") or ".", numbers.get("thousands") or ""
    parse = numbers.get("parse") or {}
    if decimal == thousands:
        raise PipelineError(
            f"etl.decimal and etl.thousands are both {decimal!r}", "set one of them to another sign"
        )
    parsed = {}
    for name, form in parse.items():
        if name not in table:
            raise unknown_column("etl.parse", name, table)
        if form not in DECORATIONS:
            raise unknown_value(f"etl.parse.{name}", form, DECORATIONS)
        text = table[name].astype("string")
        parsed[name] = plain(text, decimal, thousands, form)
        words = parsed[name].dropna()
        odd = text[words.index][pd.to_numeric(words, errors="coerce").isna()]
        units = text.str.extract(f"({DECORATIONS['unit']})")[0].str.strip().dropna().unique()
        if not odd.empty:
            raise PipelineError(
                f"etl.parse reads {name!r} as {form}, and {len(odd)} cell(s) are not: "
                f"{', '.join(map(repr, odd.unique()[:3]))} (data row {odd.index[0] + 1})",
                f"name those that mean no value in etl.missing, or leave {name} out of etl.parse",
            )
        if form == "unit" and len(units) > 1:
            raise PipelineError(
                f"{name!r} has numbers in several units: {', '.join(map(repr, units[:5]))}",
                "give them in one unit",
            )
    if decimal != "." or thousands:
        for name in table.columns.difference([*text_columns, *parse]):
            if is_string_dtype(table[name]):
                text = plain(table[name], decimal, thousands)
                words = text.dropna()
                if len(words) and pd.to_numeric(words, errors="coerce").notna().all():
                    parsed[name] = text
    return table.assign(**parsed)


def tidy_titles(raw: pd.DataFrame) -> pd.DataFrame:
    """The table with its titles in snake case: ``Sp. Atk`` becomes ``sp_atk``.

    Raises:
        PipelineError: two titles become one name.
    """
    table = raw.rename(columns=snake_case)
    duplicates = sorted(set(table.columns[table.columns.duplicated()]))
    if duplicates:
        titles = [str(title) for title in raw.columns if snake_case(title) in duplicates]
        raise PipelineError(
            f"the columns {titles} all become {duplicates}", "rename them in the data"
        )
    return table


def strip_text(table: pd.DataFrame, missing: Sequence[str]) -> pd.DataFrame:
    """Strip text cells, and set empty cells and the ``missing`` words to missing."""
    texts = {name: table[name].str.strip() for name in table if is_string_dtype(table[name])}
    return table.assign(
        **{name: text.mask(text.isin(["", *missing])) for name, text in texts.items()}
    )


def read_types(table: pd.DataFrame, text_columns: Sequence[str]) -> pd.DataFrame:
    """Convert text columns of only numbers, or only booleans, to these types."""
    free = [name for name in table.columns.difference(text_columns) if is_string_dtype(table[name])]
    return table.assign(**{name: read_column(table[name]) for name in free})


def read_column(text: pd.Series) -> pd.Series:
    """A text column as numbers or booleans, if all its cells are, else unchanged."""
    words = text.dropna()
    if words.empty:
        return text
    if words.iloc[0].lower() in TRUTH and words.str.lower().isin(TRUTH).all():
        return (text.str.lower() == "true").astype("boolean").mask(text.isna())
    try:
        numbers = pd.to_numeric(text, dtype_backend="numpy_nullable")
    except (ValueError, TypeError):
        return text
    exact = is_numeric_dtype(numbers) and not code(words)  # integers beyond 64 bits stay text
    return numbers if exact and numbers.isna().equals(text.isna()) else text


def fill_missing(table: pd.DataFrame, fill: dict[str, Any]) -> pd.DataFrame:
    """Fill missing cells with the value of their column; absent columns are ignored."""
    for name in table.columns.intersection(fill):
        column, value = table[name], fill[name]
        if is_string_dtype(column) and isinstance(value, bool) and not column.isna().all():
            raise PipelineError(
                f"etl.fill gives {name!r}, a column of words, the truth value {value}; YAML reads "
                "yes, no, on and off as such",
                f"quote the word: {name}: 'No'",
            )
        if is_string_dtype(column):
            value = str(value)
        elif column.isna().all():  # it has no type yet
            table[name] = pd.Series(value, column.index).convert_dtypes()
            continue
        try:
            table[name] = column.fillna(value)
        except (TypeError, ValueError) as error:
            raise PipelineError(
                f"etl.fill gives {name!r}, a column of {column.dtype}, the value {value!r}",
                "give a value of the column's own type",
            ) from error
    return table


def validate(table: pd.DataFrame, rules: list[dict[str, Any]]) -> pd.DataFrame:
    """Check a clean table against ``etl.schema``, and cast its columns to the schema's types.

    Raises:
        PipelineError: lists the violations: column, rule, number of rows, values and positions.
    """
    table, cases = check(table, rules)
    if cases.empty:
        return table
    lines = violations(cases)
    omitted = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    raise PipelineError(
        "\n  ".join(
            [f"the table breaks etl.schema in {len(lines)} place(s):", *lines[:SHOWN], *omitted]
        ),
        "correct the data, or etl.schema (your own data: data=csv has no schema)",
    )


def check(table: pd.DataFrame, rules: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cast a clean table to ``etl.schema``, and find the cells that break its rules.

    Returns:
        The table; and a row for each such cell: column, rule, value and index.
    """
    schema = make_schema(json.dumps(rules))
    names = {"check": "rule", "failure_case": "value"}
    mistyped_cells = [
        fractions(table, rule["column"]) for rule in rules if rule.get("dtype") == "int"
    ]
    try:
        checked = schema.validate(table, lazy=True)
        return checked, pd.concat(mistyped_cells) if mistyped_cells else pd.DataFrame()
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
    coercion = cases["check"].str.startswith("coerce_dtype")
    mistyped_columns = set(cases.loc[coercion, "column"])  # other rules can't be checked on them
    rule_names = {"not_nullable": "nullable false", "field_uniqueness": "unique"}
    rule_names |= {f"coerce_dtype('{name}')": f"dtype {rule}" for rule, name in DTYPES.items()}
    cases = cases[coercion | ~cases["column"].isin(mistyped_columns)].replace({"check": rule_names})
    cases = cases[["column", "check", "failure_case", "index"]].rename(columns=names)
    return table, pd.concat([*mistyped_cells, cases])


@lru_cache(8)
def make_schema(rules: str) -> pa.DataFrameSchema:
    """The pandera schema of rules in JSON; cached, as building takes longer than checking a row."""
    return pa.DataFrameSchema({rule["column"]: schema_column(rule) for rule in json.loads(rules)})


def fractions(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The cells of a column with a fraction, which pandas would truncate to integers."""
    values = table[name] if name in table else pd.Series(dtype=object)
    if not is_float_dtype(values):
        return pd.DataFrame()
    has_fraction = (values.notna() & (values % 1 != 0)).to_numpy(bool)
    if not has_fraction.any():
        return pd.DataFrame()
    cells = values[has_fraction].astype(object)
    return pd.DataFrame({"column": name, "rule": "dtype int", "value": cells, "index": cells.index})


def text_columns(rules: list[dict[str, Any]]) -> list[str]:
    """The columns that are text by ``etl.schema``, even if every cell is a number."""
    return [rule["column"] for rule in rules if rule.get("dtype") == "str"]


def lacking(names: Iterable[str], raw: pd.DataFrame) -> list[str]:
    """The names that no column of a raw table has once it is cleaned."""
    columns = {snake_case(title) for title in raw.columns}
    return [name for name in names if name not in columns]


def check_rules(rules: list[dict[str, Any]]) -> None:
    """Refuse invalid entries of ``etl.schema``.

    Raises:
        PipelineError: names the entry, and the unknown rule, kind or dtype.
    """
    for rule in rules:
        if not isinstance(rule, dict) or "column" not in rule:
            raise PipelineError(
                f"etl.schema: {rule!r} names no column", "write {column: NAME, dtype: int, ...}"
            )
        for key in rule:
            if key not in RULES:
                raise PipelineError(
                    f"etl.schema: unknown rule {key!r} for column {rule['column']!r}"
                    f"{did_you_mean(key, RULES)}",
                    f"the rules are: {', '.join(RULES)}",
                )
        truths = [value for value in rule.get("values") or [] if isinstance(value, bool)]
        if truths and rule.get("dtype") != "bool":
            raise PipelineError(
                f"etl.schema: the values of {rule['column']!r} are truth values: {truths}; YAML "
                "reads yes, no, on and off as such",
                "quote the words: values: ['Yes', 'No']",
            )
        if rule.get("kind") not in (None, *KINDS):
            raise PipelineError(
                f"etl.schema: unknown kind {rule['kind']!r} for column {rule['column']!r}"
                f"{did_you_mean(rule['kind'], KINDS)}",
                f"the kinds are: {', '.join(KINDS)}",
            )
        if rule.get("dtype") not in (None, *DTYPES):
            raise PipelineError(
                f"etl.schema: unknown dtype {rule['dtype']!r} for column {rule['column']!r}"
                f"{did_you_mean(rule['dtype'], DTYPES)}",
                f"the dtypes are: {', '.join(DTYPES)}",
            )


def schema_column(rule: dict[str, Any]) -> pa.Column:
    """One entry of ``etl.schema`` as a pandera column."""
    checks: dict[str, Callable[..., pa.Check]] = {
        "min": pa.Check.ge,
        "max": pa.Check.le,
        "values": pa.Check.isin,
    }
    return pa.Column(
        DTYPES.get(rule.get("dtype", "")),
        [
            check(rule[key], error=f"{key} {rule[key]}")
            for key, check in checks.items()
            if rule.get(key) is not None
        ],
        nullable=rule.get("nullable", False),
        unique=rule.get("unique", False),
        coerce=rule.get("dtype") is not None,
    )


def violations(cases: pd.DataFrame) -> list[str]:
    """The violations that :func:`check` found, one line for each column and rule."""
    lines = []
    for (column, rule), rows in cases.fillna({"column": ""}).groupby(
        ["column", "rule"], sort=False
    ):
        values = [*rows["value"].unique()[:3]]
        if rule == "column_in_dataframe":
            lines += [f"{name}: no such column" for name in rows["value"]]
        elif rows["index"].isna().all():  # the check itself failed
            lines.append(f"{column}: {rule} can't be checked: {values[0]}")
        else:
            examples = ", ".join(
                f"{value if is_number(value) else repr(value)}" for value in values
            )
            data_rows = ", ".join(str(int(index) + 1) for index in rows["index"].head(3))
            lines.append(
                f"{column}: {rule} fails for {len(rows)} row(s): {examples} (data row {data_rows})"
            )
    return lines


def unknown_column(key: str, column: str, table: pd.DataFrame) -> PipelineError:
    """The error for a configured column that the table does not have."""
    return PipelineError(
        f"{key} names {column!r}, which the table lacks{did_you_mean(column, table.columns)}",
        f"the columns are: {', '.join(map(str, table.columns))}",
    )
