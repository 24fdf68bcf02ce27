"""Clean a raw table, check it against its schema, and log it as a processed-data artifact."""

import sys
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipeline import step
from pipeline.errors import PipelineError, did_you_mean
from pipeline.tables import read_raw, require_columns, snake_case, write_table

DTYPES = {"int": "Int64", "float": "Float64", "str": "string", "bool": "boolean"}
RULES = ("column", "dtype", "min", "max", "values", "unique", "nullable")
SHOWN = 20


def clean(
    raw: pd.DataFrame, required: list[str] | None, fill: dict, text_columns: list[str] = ()
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Tidy names and cells, treat missing values, and drop duplicates. Idempotent.

    Args:
        raw: the table as it was read; it is not changed.
        required: columns a row must have a value in; None means every column not in ``fill``.
        fill: the value for missing cells, per column.
        text_columns: columns that stay text, even where every cell is a number.

    Returns:
        The clean table, its index being the rows' places in ``raw``; and how many rows were
        dropped for each reason.

    Raises:
        PipelineError: two titles become one name, a required column is not there, a fill of
            the wrong type, or no row is left.
    """
    table = raw.rename(columns=snake_case)
    twins = sorted(set(table.columns[table.columns.duplicated()]))
    if twins:
        titles = [str(title) for title in raw.columns if snake_case(title) in twins]
        raise PipelineError(f"the columns {titles} all become {twins}", "rename them in the data")
    table = fill_missing(tidy(table, text_columns), fill)
    if required is None:
        required = [column for column in table if column not in fill]
    dropped = {}
    for column in required:
        if column not in table:
            raise unknown_column("etl.required", column, table)
        missing = table[column].isna()
        if missing.any():
            dropped[f"missing {column}"] = int(missing.sum())
            table = table[~missing]
    if table.empty:
        raise PipelineError(
            f"no row is left of {len(raw)}; dropped: {dropped}",
            "list fewer columns in etl.required, or give a value in etl.fill",
        )
    table = tidy(table, text_columns)  # a dropped row may have held a column's only word
    twice = table.duplicated()
    if twice.any():
        dropped["duplicate"] = int(twice.sum())
    return table[~twice], dropped


def tidy(table: pd.DataFrame, text_columns: list[str]) -> pd.DataFrame:
    """Strip text cells, make empty ones missing, read columns of numbers or truth as such."""
    return table.apply(lambda column: tidy_text(column, column.name in text_columns))


def tidy_text(column: pd.Series, keep: bool) -> pd.Series:
    """One column of :func:`tidy`; a column that is not text comes back as it is."""
    if not pd.api.types.is_string_dtype(column):
        return column
    text = column.str.strip().replace("", pd.NA)
    words = text.dropna()
    if keep or words.empty:
        return text
    if words.str.lower().isin(["true", "false"]).all():
        return (text.str.lower() == "true").astype("boolean").mask(text.isna())
    try:
        numbers = pd.to_numeric(text, dtype_backend="numpy_nullable")
    except (ValueError, TypeError):
        return text
    return numbers if numbers.isna().equals(text.isna()) else text


def fill_missing(table: pd.DataFrame, fill: dict) -> pd.DataFrame:
    """Give missing cells their column's value; a column that is not there is passed over."""
    for column in fill:
        if column in table:
            try:
                table[column] = table[column].fillna(fill[column])
            except (TypeError, ValueError) as error:
                raise PipelineError(
                    f"etl.fill gives {column!r}, a column of {table[column].dtype}, the value "
                    f"{fill[column]!r}",
                    "give a value of the column's own type",
                ) from error
    return table


def validate(table: pd.DataFrame, rules: list[dict]) -> pd.DataFrame:
    """Check a clean table against ``etl.schema`` and give its columns the types named there.

    Raises:
        PipelineError: lists every violation: column, rule, how many rows, values and places.
    """
    schema = pa.DataFrameSchema({rule["column"]: schema_column(rule) for rule in rules})
    try:
        return schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        lines = violations(error.failure_cases)
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    raise PipelineError(
        "\n  ".join(
            [f"the table breaks etl.schema in {len(lines)} place(s):", *lines[:SHOWN], *more]
        ),
        "correct the data, or etl.schema (your own data: data=csv has no schema)",
    )


def schema_column(rule: dict) -> pa.Column:
    """One entry of ``etl.schema`` as a pandera column."""
    for key in rule:
        if key not in RULES:
            raise PipelineError(
                f"etl.schema: unknown rule {key!r} for column {rule.get('column')!r}"
                f"{did_you_mean(key, RULES)}",
                f"the rules are: {', '.join(RULES)}",
            )
    dtype = rule.get("dtype")
    if dtype is not None and dtype not in DTYPES:
        raise PipelineError(
            f"etl.schema: unknown dtype {dtype!r} for column {rule['column']!r}",
            f"the dtypes are: {', '.join(DTYPES)}",
        )
    checks = []
    if rule.get("min") is not None:
        checks.append(pa.Check.ge(rule["min"]))
    if rule.get("max") is not None:
        checks.append(pa.Check.le(rule["max"]))
    if rule.get("values") is not None:
        checks.append(pa.Check.isin(rule["values"]))
    return pa.Column(
        DTYPES.get(dtype),
        checks,
        nullable=rule.get("nullable", False),
        unique=rule.get("unique", False),
        coerce=dtype is not None,
    )


def violations(cases: pd.DataFrame) -> list[str]:
    """pandera's failure cases, one line for each column and rule."""
    lines = []
    for (column, check), rows in cases.fillna({"column": ""}).groupby(
        ["column", "check"], sort=False
    ):
        if check == "column_in_dataframe":
            lines += [f"{name}: no such column" for name in rows["failure_case"]]
            continue
        values = ", ".join(map(repr, rows["failure_case"].drop_duplicates().head(3)))
        places = [str(int(index) + 1) for index in rows["index"].dropna().head(3)]
        where = f", data row {', '.join(places)}" if places else ""
        lines.append(f"{column}: {check} fails for {len(rows)} row(s): {values}{where}")
    return lines


def unknown_column(key: str, column: str, table: pd.DataFrame) -> PipelineError:
    """The error for a configured column that the table does not have."""
    return PipelineError(
        f"{key} names {column!r}, which the table lacks{did_you_mean(column, table.columns)}",
        f"the columns are: {', '.join(map(str, table.columns))}",
    )


def go(args, run: step.StepRun) -> None:
    """Read the raw artifact, clean and check it, and log the result."""
    rules = args.schema or []
    kept = [rule["column"] for rule in rules if rule.get("dtype") == "str"]
    source = run.use(args.input_artifact).file
    raw = read_raw(source, args.sep, args.encoding, args.missing, kept)
    require_columns(source, raw, args.sep)
    for column in args.fill or {}:
        if column not in map(snake_case, raw.columns):
            run.warn(f"etl.fill names {column!r}, which the table lacks")
    table, dropped = clean(raw, args.required, args.fill or {}, kept)
    table = validate(table, rules)
    counts = {"rows_before": len(raw), "rows_after": len(table), "columns": table.shape[1]}
    run.log_artifact(
        write_table(table, run.folder / args.artifact_name),
        name=args.artifact_name,
        type=args.artifact_type,
        description=args.artifact_description,
        metadata={**counts, "dropped": dropped},
    )
    run.log_metrics({**counts, **{f"dropped {reason}": n for reason, n in dropped.items()}})


def arguments():
    """The step's parameters; MLproject has the same ones."""
    parser = step.parser(__doc__)
    parser.add_argument("--input_artifact", required=True, help="raw data, as name:version")
    parser.add_argument("--artifact_name", required=True, help="name of the artifact to log")
    parser.add_argument("--artifact_type", required=True, help="its type: processed_data")
    parser.add_argument("--artifact_description", required=True, help="a sentence about it")
    parser.add_argument("--sep", type=step.optional, default="", help="between cells; a comma")
    parser.add_argument("--encoding", type=step.optional, default="", help="of the file; UTF-8")
    parser.add_argument("--missing", type=step.json_value, default='[""]', help="JSON list")
    parser.add_argument("--required", type=step.json_value, default="", help="JSON list")
    parser.add_argument("--fill", type=step.json_value, default="{}", help="JSON: column to value")
    parser.add_argument("--schema", type=step.json_value, default="[]", help="JSON list of rules")
    return parser


if __name__ == "__main__":
    step.main(__file__, arguments(), go)
