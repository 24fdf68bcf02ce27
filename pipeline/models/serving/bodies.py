"""The body of a request as the cells of its rows, within limits: no body is expensive to refuse."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from pipeline.core.errors import PipelineError
from pipeline.models.scoring import Cells, Loaded
from pipeline.science.data.tables import dialect

JSON, CSV = "application/json", "text/csv"
LONGEST_TITLE = 200
TITLES_CACHED = 16


@dataclass(frozen=True)
class Limits:
    """What a request may be.

    Attributes:
        max_bytes: the largest body.
        max_rows: rows in a request.
        max_columns: columns in a request, features or not.
        timeout: seconds for sending the body, and again for scoring it.
    """

    max_bytes: int = 16_000_000
    max_rows: int = 10_000
    max_columns: int = 500
    timeout: float = 30


class Reader:
    """Reads bodies for one model."""

    def __init__(self, loaded: Loaded, limits: Limits):
        self._limits, self._kinds = limits, loaded.kinds
        self._sep, self._encoding = dialect(loaded.cleaning.get("sep"), None)
        self._locate = lru_cache(TITLES_CACHED)(loaded.locate)

    def read(self, body: bytes, kind: str) -> Cells:
        """The features' cells in a body.

        Args:
            body: what was sent.
            kind: :data:`JSON` or :data:`CSV`.

        Raises:
            PipelineError: it is no table of such rows, lacks a column or is over a limit.
        """
        titles, rows = self._csv(body) if kind == CSV else self._json(body)
        self._count("rows", len(rows), self._limits.max_rows)
        self._count("columns", len(titles), self._limits.max_columns)
        if not all(isinstance(title, str) for title in titles):
            raise PipelineError(f"the rows' columns have no names: {titles[:5]!r:.80}", "name them")
        if any(len(title) > LONGEST_TITLE for title in titles):
            said = f"a column's name has more than {LONGEST_TITLE} characters"
            raise PipelineError(said, "send the columns that the model needs")
        places = self._locate(tuple(titles))
        for number, row in enumerate(rows, 1):
            if not isinstance(row, list) or len(row) != len(titles):
                has = f"{len(row)} cells" if isinstance(row, list) else "no cells"
                said = f"row {number} has {has}, and the header {len(titles)}"
                raise PipelineError(said, f"the cells are separated by {self._sep!r}")
        return {name: as_text(name, [row[place] for row in rows]) for name, place in places.items()}

    def _count(self, what: str, number: int, most: int) -> None:
        if number > most:
            raise PipelineError(
                f"the request has {number:,} {what}, and the limit is {most:,}",
                "send less at once; python -m pipeline predict scores files of any size",
            )
        if not number:
            raise PipelineError(f"the request has no {what}", "send named columns and a row")

    def _csv(self, body: bytes) -> tuple[list[str], list[list[str]]]:
        try:
            text = io.StringIO(body.decode(self._encoding), newline="")
            lines = csv.reader(text, delimiter=self._sep, skipinitialspace=True)
            titles = next((row for row in lines if row), [])
            self._count("columns", len(titles), self._limits.max_columns)
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
        told = parse(body)
        if not isinstance(told, dict):
            kind = {list: "list"}.get(type(told), type(told).__name__)
            raise PipelineError(f"Received a {kind}", "send dataframe_records or dataframe_split")
        forms = [key for key in ("dataframe_records", "dataframe_split") if key in told]
        if len(forms) != 1:
            raise PipelineError(
                "the body names no rows", "send one of dataframe_records and dataframe_split"
            )
        content = told[forms[0]]
        if forms == ["dataframe_split"]:
            known = isinstance(content, dict) and {"columns", "data", "index"} >= content.keys()
            titles, rows = (content.get("columns"), content.get("data")) if known else (None, None)
            if not (isinstance(titles, list) and isinstance(rows, list)):
                said = "dataframe_split has no columns and data that are lists"
                raise PipelineError(said, '{"columns": [NAME], "data": [[VALUE]]}')
            return titles, rows
        if not isinstance(content, list):
            raise PipelineError("dataframe_records is no list", '[{"NAME": VALUE}]')
        self._count("rows", len(content), self._limits.max_rows)
        titles = self._titles(content)
        needed = set(self._locate(tuple(titles)).values())  # before a wide table is made
        kept = [title for place, title in enumerate(titles) if place in needed]
        return kept, [[row.get(title) for title in kept] for row in content]

    def _titles(self, records: Iterable[Any]) -> list[str]:
        titles: dict[str, None] = {}
        for number, row in enumerate(records, 1):
            if not isinstance(row, dict):
                said = f"row {number} is no object: its columns have no names"
                raise PipelineError(said, '[{"NAME": VALUE}]')
            titles.update(dict.fromkeys(row))
            self._count("columns", len(titles) or 1, self._limits.max_columns)
        if any(len(title) > LONGEST_TITLE for title in titles):
            said = f"a column's name has more than {LONGEST_TITLE} characters"
            raise PipelineError(said, "send the columns that the model needs")
        return [*titles]


def parse(body: bytes) -> Any:
    """A body as JSON.

    Raises:
        PipelineError: it is not valid, not UTF-8, nested too deeply, or has a number too long.
    """
    try:
        text = body.decode()
        told = json.loads(text)
        if "\\ud" in text.lower():  # half of a surrogate pair is no character
            json.dumps(told, ensure_ascii=False).encode()
    except RecursionError as error:
        raise PipelineError("the body is nested too deeply", "send rows of plain values") from error
    except ValueError as error:  # those of JSON, of text and of int
        said = f"the body is not valid JSON in UTF-8: {error}"
        raise PipelineError(said[:200], "check what is sent") from error
    return told


def as_text(name: str, cells: list[Any]) -> list[str | None]:
    """A column's cells as a CSV file would have them; gaps stay gaps.

    Where pandas would change the numbers of a mixed column, such as whole numbers beside a gap,
    it does so here, too: a row is read as :meth:`Loaded.score` reads a table.

    Raises:
        PipelineError: a cell is a list or an object.
    """
    types = {*map(type, cells)}
    if types & {list, dict}:
        place = next(n for n, cell in enumerate(cells, 1) if isinstance(cell, list | dict))
        said = f"row {place}: {name}: a list or an object is no value"
        raise PipelineError(said, "send plain values")
    plain = types - {type(None)}
    if len(plain) > 1 or (plain == {int} and len(types) > 1):
        cells = pd.DataFrame([[cell] for cell in cells])[0].tolist()
    return [None if cell is None or cell != cell else str(cell) for cell in cells]
