"""Parses the body of a request into cells; bodies over a limit are refused early."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from pipeline.core.errors import PipelineError
from pipeline.models.scoring import Cells, LoadedModel
from pipeline.science.data.tables import dialect

JSON, CSV = "application/json", "text/csv"
LONGEST_TITLE = 200
TITLES_CACHED = 16


@dataclass(frozen=True)
class Limits:
    """The limits of a request.

    Attributes:
        max_bytes: the size of the body.
        max_rows: rows in a request.
        max_columns: columns in a request, features or not.
        timeout: seconds to receive the body, and again to score it.
    """

    max_bytes: int = 16_000_000
    max_rows: int = 10_000
    max_columns: int = 500
    timeout: float = 30


class Reader:
    """Parses request bodies for a model."""

    def __init__(self, loaded: LoadedModel, limits: Limits):
        self._limits, self._kinds = limits, loaded.kinds
        self._sep, self._encoding = dialect(loaded.cleaning.get("sep"), None)
        self._locate = lru_cache(TITLES_CACHED)(loaded.locate)

    def read(self, body: bytes, kind: str) -> Cells:
        """Parse a body into the cells of each feature.

        Args:
            body: the bytes of the request.
            kind: :data:`JSON` or :data:`CSV`.

        Raises:
            PipelineError: the body has no table, lacks a column or exceeds a limit.
        """
        titles, rows = self._csv(body) if kind == CSV else self._json(body)
        self._check_count("rows", len(rows), self._limits.max_rows)
        self._check_count("columns", len(titles), self._limits.max_columns)
        if not all(isinstance(title, str) for title in titles):
            raise PipelineError(f"the rows' columns have no names: {titles[:5]!r:.80}", "name them")
        if any(len(title) > LONGEST_TITLE for title in titles):
            problem = f"a column's name has more than {LONGEST_TITLE} characters"
            raise PipelineError(problem, "send the columns that the model needs")
        positions = self._locate(tuple(titles))
        for number, row in enumerate(rows, 1):
            if not isinstance(row, list) or len(row) != len(titles):
                content = f"{len(row)} cells" if isinstance(row, list) else "no cells"
                problem = f"row {number} has {content}, and the header {len(titles)}"
                raise PipelineError(problem, f"the cells are separated by {self._sep!r}")
        return {name: as_text(name, [row[p] for row in rows]) for name, p in positions.items()}

    def _check_count(self, unit: str, number: int, limit: int) -> None:
        if number > limit:
            raise PipelineError(
                f"the request has {number:,} {unit}, and the limit is {limit:,}",
                "send less at once; python -m pipeline predict scores files of any size",
            )
        if not number:
            raise PipelineError(f"the request has no {unit}", "send named columns and a row")

    def _csv(self, body: bytes) -> tuple[list[str], list[list[str]]]:
        try:
            text = io.StringIO(body.decode(self._encoding), newline="")
            lines = csv.reader(text, delimiter=self._sep, skipinitialspace=True)
            titles = next((row for row in lines if row), [])
            self._check_count("columns", len(titles), self._limits.max_columns)
            rows = []
            for row in lines:
                if row:
                    rows.append(row)
                    if len(rows) > self._limits.max_rows:
                        break
        except (UnicodeError, csv.Error) as error:
            raise PipelineError(f"this is no CSV in UTF-8: {error}", "") from error
        if not rows:
            raise PipelineError("this CSV has no rows", "send a header and at least one row")
        return titles, rows

    def _json(self, body: bytes) -> tuple[Sequence[Any], list[Any]]:
        document = parse(body)
        if not isinstance(document, dict):
            kind = {list: "list"}.get(type(document), type(document).__name__)
            raise PipelineError(f"Received a {kind}", "send dataframe_records or dataframe_split")
        keys = [key for key in ("dataframe_records", "dataframe_split") if key in document]
        if len(keys) != 1:
            raise PipelineError(
                "the body names no rows", "send one of dataframe_records and dataframe_split"
            )
        content = document[keys[0]]
        if keys == ["dataframe_split"]:
            is_split = isinstance(content, dict) and {"columns", "data", "index"} >= content.keys()
            titles = content.get("columns") if is_split else None
            rows = content.get("data") if is_split else None
            if not (isinstance(titles, list) and isinstance(rows, list)):
                problem = "dataframe_split has no columns and data that are lists"
                raise PipelineError(problem, '{"columns": [NAME], "data": [[VALUE]]}')
            return titles, rows
        if not isinstance(content, list):
            raise PipelineError("dataframe_records is no list", '[{"NAME": VALUE}]')
        self._check_count("rows", len(content), self._limits.max_rows)
        titles = self._titles(content)
        needed = set(self._locate(tuple(titles)).values())  # before a wide table is built
        used = [title for position, title in enumerate(titles) if position in needed]
        return used, [[row.get(title) for title in used] for row in content]

    def _titles(self, records: Iterable[Any]) -> list[str]:
        titles: dict[str, None] = {}
        for number, row in enumerate(records, 1):
            if not isinstance(row, dict):
                problem = f"row {number} is no object: its columns have no names"
                raise PipelineError(problem, '[{"NAME": VALUE}]')
            titles.update(dict.fromkeys(row))
            self._check_count("columns", len(titles) or 1, self._limits.max_columns)
        if any(len(title) > LONGEST_TITLE for title in titles):
            problem = f"a column's name has more than {LONGEST_TITLE} characters"
            raise PipelineError(problem, "send the columns that the model needs")
        return [*titles]


def parse(body: bytes) -> Any:
    """Parse a body as JSON.

    Raises:
        PipelineError: it is not valid JSON in UTF-8, is nested too deeply, or has a number with too
            many digits.
    """
    try:
        text = body.decode()
        document = json.loads(text)
        if "\\ud" in text.lower():  # half of a surrogate pair can't be encoded
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError as error:
        raise PipelineError("the body is nested too deeply", "send rows of plain values") from error
    except ValueError as error:  # of json, of str.decode and of int
        problem = f"the body is not valid JSON in UTF-8: {error}"
        raise PipelineError(problem[:200], "check what is sent") from error
    return document


def as_text(name: str, cells: list[Any]) -> list[str | None]:
    """A column's cells as text, as in a CSV file; gaps stay gaps.

    pandas changes the numbers of a mixed column, such as integers beside a gap. The same happens
    here, so that a request is read as :meth:`LoadedModel.score` reads a table.

    Raises:
        PipelineError: a cell is a list or an object.
    """
    types = {*map(type, cells)}
    if types & {list, dict}:
        row = next(n for n, cell in enumerate(cells, 1) if isinstance(cell, list | dict))
        problem = f"row {row}: {name}: a list or an object is no value"
        raise PipelineError(problem, "send plain values")
    value_types = types - {type(None)}
    if len(value_types) > 1 or (value_types == {int} and len(types) > 1):
        cells = pd.DataFrame([[cell] for cell in cells])[0].tolist()
    return [None if cell is None or cell != cell else str(cell) for cell in cells]
