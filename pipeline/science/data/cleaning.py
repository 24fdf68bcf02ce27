"""Cleans a raw table and validates it against a schema. Pure functions."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandas.api.types import is_float_dtype, is_number, is_numeric_dtype, is_string_dtype

from pipeline.core.errors import PipelineError, did_you_mean

# relative: a model keeps a copy of these files, see model_files
from .cells import DECORATIONS, plain
from .cells import date_parts as date_parts  # for those who predict with a copy
from .tables import code, snake_case

DTYPES = {"int": "Int64", "float": "Float64", "str": "string", "bool": "boolean"}
RULES = ("kind", "column", "dtype", "min", "max", "values", "unique", "nullable")
# What a column may hold; identifiers and empty columns are no features
KINDS = ("number", "truth", "category", "many", "date", "text", "identifier", "constant", "empty")
TRUTH = ("true", "false")
DUPLICATES = ("keep", "drop")
SHOWN = 20


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
    """Tidy names and cells, treat missing values and equal rows. Idempotent, but for ``numbers``.

    Args:
        raw: the table as it was read; it is not changed.
        required: columns a row must have a value in; None means every column not in ``fill``.
        fill: the value for missing cells, per column.
        text_columns: columns that stay text, even where every cell is a number.
        missing: words that mean "no value"; an empty cell always does.
        duplicates: ``keep`` equal rows, or ``drop`` all but the first.
        numbers: how numbers are written: ``decimal``, ``thousands``, and ``parse`` by column.

    Returns:
        The clean table, its index being the rows' places in ``raw``; and how many rows were
        dropped for each reason.

    Raises:
        PipelineError: two titles become one name, a required column is not there, a fill of
            the wrong type, or no row is left.
    """
    if raw.empty:
        raise PipelineError("the table has a header and no rows", "check data.file_url")
    if duplicates not in DUPLICATES:
        raise PipelineError(
            f"etl.duplicates={duplicates!r}{did_you_mean(duplicates, DUPLICATES)}",
            f"use one of: {', '.join(DUPLICATES)}",
        )
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
    table = read_types(table, text_columns)  # a dropped row may have held a column's only word
    if duplicates == "drop":
        twice = table.duplicated()
        if twice.any():
            dropped["duplicate"] = int(twice.sum())
            table = table[~twice]
    return table, dropped


def equal_rows(table: pd.DataFrame, dropped: dict[str, int]) -> list[str]:
    """What was done with equal rows, in a line, if there are any."""
    if "duplicate" in dropped:
        return [f"{dropped['duplicate']} rows equal to an earlier one are dropped"]
    twice = int(table.duplicated().sum())
    line = f"{twice} of {len(table)} rows are equal to an earlier one, and kept"
    return [f"{line} (etl.duplicates=drop drops them)"] if twice else []


def plain_numbers(
    table: pd.DataFrame, numbers: dict[str, Any], text_columns: Sequence[str]
) -> pd.DataFrame:
    """The table with numbers as Python writes them: ``1.234,5`` becomes ``1234.5``.

    Raises:
        PipelineError: ``parse`` names a column that is not there, a kind that there is not, or
            cells that are no such numbers.
    """
    decimal, thousands = numbers.get("decimal") or ".", numbers.get("thousands") or ""
    parse = numbers.get("parse") or {}
    if decimal == thousands:
        raise PipelineError(
            f"etl.decimal and etl.thousands are both {decimal!r}", "set one of them otherwise"
        )
    read = {}
    for name, how in parse.items():
        if name not in table:
            raise unknown_column("etl.parse", name, table)
        if how not in DECORATIONS:
            raise PipelineError(
                f"etl.parse reads {name!r} as {how!r}{did_you_mean(str(how), DECORATIONS)}",
                f"use one of: {', '.join(DECORATIONS)}",
            )
        text = table[name].astype("string")
        read[name] = plain(text, decimal, thousands, how)
        words = read[name].dropna()
        odd = text[words.index][pd.to_numeric(words, errors="coerce").isna()]
        units = text.str.extract(f"({DECORATIONS['unit']})")[0].str.strip().dropna().unique()
        if not odd.empty:
            raise PipelineError(
                f"etl.parse reads {name!r} as {how}, and {len(odd)} cell(s) are not: "
                f"{', '.join(map(repr, odd.unique()[:3]))} (data row {odd.index[0] + 1})",
                f"name those that mean no value in etl.missing, or leave {name} out of etl.parse",
            )
        if how == "unit" and len(units) > 1:
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
                    read[name] = text
    return table.assign(**read)


def tidy_titles(raw: pd.DataFrame) -> pd.DataFrame:
    """The table with its titles as names: ``Sp. Atk`` becomes ``sp_atk``.

    Raises:
        PipelineError: two titles become one name.
    """
    table = raw.rename(columns=snake_case)
    twins = sorted(set(table.columns[table.columns.duplicated()]))
    if twins:
        titles = [str(title) for title in raw.columns if snake_case(title) in twins]
        raise PipelineError(f"the columns {titles} all become {twins}", "rename them in the data")
    return table


def strip_text(table: pd.DataFrame, missing: Sequence[str]) -> pd.DataFrame:
    """Strip text cells, and make empty ones and those that mean it missing."""
    texts = {name: table[name].str.strip() for name in table if is_string_dtype(table[name])}
    return table.assign(
        **{name: text.mask(text.isin(["", *missing])) for name, text in texts.items()}
    )


def read_types(table: pd.DataFrame, text_columns: Sequence[str]) -> pd.DataFrame:
    """Turn text columns that hold only numbers, or only truth values, into such columns."""
    free = [name for name in table.columns.difference(text_columns) if is_string_dtype(table[name])]
    return table.assign(**{name: read_column(table[name]) for name in free})


def read_column(text: pd.Series) -> pd.Series:
    """A text column as numbers or truth values, if all its words are such, else as it is."""
    words = text.dropna()
    if words.empty:
        return text
    if words.iloc[0].lower() in TRUTH and words.str.lower().isin(TRUTH).all():
        return (text.str.lower() == "true").astype("boolean").mask(text.isna())
    try:
        numbers = pd.to_numeric(text, dtype_backend="numpy_nullable")
    except (ValueError, TypeError):
        return text
    exact = is_numeric_dtype(numbers) and not code(words)  # beyond 64 bits they are not
    return numbers if exact and numbers.isna().equals(text.isna()) else text


def fill_missing(table: pd.DataFrame, fill: dict[str, Any]) -> pd.DataFrame:
    """Give missing cells their column's value; a column that is not there is passed over."""
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
    """Check a clean table against ``etl.schema`` and give its columns the types named there.

    Raises:
        PipelineError: lists every violation: column, rule, how many rows, values and places.
    """
    table, cases = check(table, rules)
    if cases.empty:
        return table
    lines = violations(cases)
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    raise PipelineError(
        "\n  ".join(
            [f"the table breaks etl.schema in {len(lines)} place(s):", *lines[:SHOWN], *more]
        ),
        "correct the data, or etl.schema (your own data: data=csv has no schema)",
    )


def check(table: pd.DataFrame, rules: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A clean table with the types of ``etl.schema``, and each cell that breaks a rule of it.

    Returns:
        The table; and a row per such cell: its column, the rule, its value, its row's index.
    """
    schema = make_schema(json.dumps(rules))
    names = {"check": "rule", "failure_case": "value"}
    broken = [fractions(table, rule["column"]) for rule in rules if rule.get("dtype") == "int"]
    try:
        checked = schema.validate(table, lazy=True)
        return checked, pd.concat(broken) if broken else pd.DataFrame()
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
    coercion = cases["check"].str.startswith("coerce_dtype")
    mistyped = set(cases.loc[coercion, "column"])  # no other rule can be checked on them
    words = {"not_nullable": "nullable false", "field_uniqueness": "unique"}
    words |= {f"coerce_dtype('{name}')": f"dtype {rule}" for rule, name in DTYPES.items()}
    cases = cases[coercion | ~cases["column"].isin(mistyped)].replace({"check": words})
    cases = cases[["column", "check", "failure_case", "index"]].rename(columns=names)
    return table, pd.concat([*broken, cases])


@lru_cache(8)
def make_schema(rules: str) -> pa.DataFrameSchema:
    """Rules, as JSON, as pandera's schema: built once, which takes longer than checking a row."""
    return pa.DataFrameSchema({rule["column"]: schema_column(rule) for rule in json.loads(rules)})


def fractions(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The cells of a column that are no whole numbers, which pandas would cut to such."""
    values = table[name] if name in table else pd.Series(dtype=object)
    if not is_float_dtype(values):
        return pd.DataFrame()
    broken = (values.notna() & (values % 1 != 0)).to_numpy(bool)
    if not broken.any():
        return pd.DataFrame()
    lost = values[broken].astype(object)
    return pd.DataFrame({"column": name, "rule": "dtype int", "value": lost, "index": lost.index})


def text_columns(rules: list[dict[str, Any]]) -> list[str]:
    """The columns that ``etl.schema`` says are text, even where every cell is a number."""
    return [rule["column"] for rule in rules if rule.get("dtype") == "str"]


def lacking(names: Iterable[str], raw: pd.DataFrame) -> list[str]:
    """The names that no column of a raw table will have."""
    columns = {snake_case(title) for title in raw.columns}
    return [name for name in names if name not in columns]


def check_rules(rules: list[dict[str, Any]]) -> None:
    """Refuse entries of ``etl.schema`` that are no rules.

    Raises:
        PipelineError: names the entry, and the rule or dtype that does not exist.
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
    """What :func:`check` has found, one line for each column and rule."""
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
            shown = ", ".join(f"{value if is_number(value) else repr(value)}" for value in values)
            places = ", ".join(str(int(index) + 1) for index in rows["index"].head(3))
            lines.append(
                f"{column}: {rule} fails for {len(rows)} row(s): {shown} (data row {places})"
            )
    return lines


def unknown_column(key: str, column: str, table: pd.DataFrame) -> PipelineError:
    """The error for a configured column that the table does not have."""
    return PipelineError(
        f"{key} names {column!r}, which the table lacks{did_you_mean(column, table.columns)}",
        f"the columns are: {', '.join(map(str, table.columns))}",
    )
