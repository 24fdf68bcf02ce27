"""Queries a database and stores the result as Parquet."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pyarrow as pa
import pyarrow.parquet
import sqlalchemy as sa
from sqlalchemy import exc

from pipeline.core.errors import PipelineError
from pipeline.core.security import secrets
from pipeline.sources.errors import NotInstalled, too_large

ROWS = 50_000  # rows per fetch


def fetch(url: str, query: str | None, target: Path, max_bytes: int) -> dict[str, str]:
    """Write the result of a query to ``target`` as Parquet; equal results give equal bytes.

    Args:
        url: SQLAlchemy's address of a database, with ``?table=`` or ``?query=`` unless ``query``
            is given.
        query: SQL.
        target: the file.
        max_bytes: the largest accepted size of the result in memory.

    Returns:
        ``asked``, the query in SQL.

    Raises:
        PipelineError: the database, driver or table does not exist, or the query fails.
    """
    address, statement = split_query(url, query)
    engine = _engine(address)
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            result = connection.execute(statement)
            titles, size = list(map(str, result.keys())), 0
            rows: list[sa.Row[Any]] = []
            for part in result.partitions(ROWS):
                rows += part
                size += sum(_size(value) for row in part for value in row)
                if size > max_bytes:
                    raise too_large(url, max_bytes)
    except exc.SQLAlchemyError as error:
        raise PipelineError(
            f"{_display_address(url)} can't be queried: {_message(error)}",
            "check the address, its ?table= or data.query",
        ) from error
    finally:
        engine.dispose()
    sql = " ".join(str(statement).split())
    if not rows:
        raise PipelineError(
            f"{_display_address(url)} answers with no rows to: {sql}", "check the query"
        )
    duplicates = sorted({title for title in titles if titles.count(title) > 1})
    if duplicates:
        raise PipelineError(
            f"the query gives several columns titled {', '.join(map(repr, duplicates))}",
            "name them: SELECT a.id AS a_id, ...",
        )
    columns = [_column([*values]) for values in zip(*rows, strict=True)]
    pyarrow.parquet.write_table(pa.Table.from_arrays(columns, titles), target)
    return {"asked": sql}


def split_query(url: str, query: str | None) -> tuple[str, sa.TextClause | sa.Select[Any]]:
    """The address of the database alone, and the query.

    Raises:
        PipelineError: there is no query, or more than one.
    """
    options = secrets.query_of(url)
    address = url.removesuffix(options).removesuffix("?")
    pairs = parse_qsl(options, keep_blank_values=True)
    queries = {key: value for key, value in pairs if key in ("table", "query") and value}
    queries |= {"data.query": query} if query else {}
    if len(queries) != 1:
        raise PipelineError(
            f"{_display_address(url)} needs one query and has {' and '.join(queries) or 'none'}",
            "give one of them: ?table=NAME at the end of the address, or data.query='SELECT ...'",
        )
    other_options = [(key, value) for key, value in pairs if key not in ("table", "query")]
    address += f"?{urlencode(other_options)}" if other_options else ""
    if "table" not in queries:
        return address, sa.text(next(iter(queries.values())).replace(":", r"\:"))
    schema, _, name = queries["table"].rpartition(".")
    return address, sa.select(sa.text("*")).select_from(sa.table(name, schema=schema or None))


def _engine(address: str) -> sa.Engine:
    try:
        url = sa.make_url(address)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            raise PipelineError(
                f"there is no database {url.database}", "an absolute path has four slashes: "
                "sqlite:////path/to/it?table=NAME",
            )  # fmt: skip
        return sa.create_engine(url)
    except exc.NoSuchModuleError as error:
        raise PipelineError(
            f"SQLAlchemy knows no database {address.partition(':')[0]!r}",
            "install its dialect (main.env_manager=local), or add it to 1-Download_data/conda.yml",
        ) from error
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"the driver {error.name!r} of {address.partition(':')[0]!r} is not installed",
            "install it (main.env_manager=local), or add it to 1-Download_data/conda.yml",
        ) from error
    except exc.ArgumentError as error:
        raise PipelineError(
            "data.file_url is no address of SQLAlchemy's",
            "write it as postgresql://host/database?table=NAME",
        ) from error


def _column(values: list[Any]) -> pa.Array:
    """A column of a result with one type; mixed types become text."""
    if any(isinstance(value, Decimal) for value in values):
        values = [float(value) if isinstance(value, Decimal) else value for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else _text(value) for value in values])


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else 8


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _display_address(url: str) -> str:
    """An address without login and options, for messages."""
    return secrets.without_login(url).partition("?")[0]


def _message(error: exc.SQLAlchemyError) -> str:
    message = str(getattr(error, "orig", None) or error)
    return " ".join(message.split("\n")[0].split())
