"""Scores a file of raw rows, piece by piece: every row comes out, in its place.

Runs in the model's own environment: ``python -m pipeline.models.predict`` is started by
``python -m pipeline predict``, which has looked the model up and compared its files.
"""

import contextlib
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from pipeline.core.errors import PipelineError
from pipeline.models.scoring import REASON, Loaded
from pipeline.science.data.tables import check_titles, dialect, wrong_encoding

CHUNK = 20_000  # rows at once


@dataclass
class Told:
    """What a file of rows came to.

    Attributes:
        rows: how many there are.
        scored: how many of them have a prediction.
        reasons: how many have none, by column and what is wrong with it.
        first: for each of these, the first row that has it; the row after the header is 1.
    """

    rows: int = 0
    scored: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reasons: pd.Series) -> None:
        """Count the next rows, given the reason of each, empty for a prediction."""
        for place, reason in zip(*_numbered(reasons), strict=True):
            kind = reason.partition(":")[0]
            self.reasons[kind] += 1
            self.first.setdefault(kind, f"row {self.rows + place}: {reason}")
        self.rows += len(reasons)
        self.scored += int((reasons == "").sum())


def _numbered(reasons: pd.Series) -> tuple[Any, Any]:
    failed = (reasons != "").to_numpy().nonzero()[0]
    return failed + 1, reasons.iloc[failed]


def predict(
    loaded: Loaded,
    source: Path,
    target: Path,
    sep: str | None = None,
    encoding: str | None = None,
    chunk: int = CHUNK,
    safe_for_spreadsheets: bool = False,
) -> Told:
    """Write a file's rows with a prediction each, or with the reason why there is none.

    The columns are those of the file, as they stand, and those that the model adds. The file is
    written whole or not at all.

    Args:
        loaded: the model.
        source, target: CSV files.
        sep, encoding: of both; by default those of the model's training data.
        chunk: rows at once; memory grows with it and not with the file.
        safe_for_spreadsheets: write what a spreadsheet would take for a formula as text.

    Raises:
        PipelineError: the file is no table, or lacks a column that the model needs.
    """
    cleaning = loaded.cleaning
    found = dialect(sep or cleaning.get("sep"), encoding or cleaning.get("encoding"))
    form = dict(zip(("sep", "encoding"), found, strict=True))
    told, cell = Told(), as_text if safe_for_spreadsheets else str
    with (
        _whole(target, form["encoding"].removesuffix("-sig")) as file,
        _rows(source, **form) as rows,
    ):
        titles = _titles(source, next(rows, None), loaded, form)
        write = _writer(file, form["sep"])
        write(map(cell, [*titles, *loaded.added]))
        while piece := [*islice(rows, chunk)]:
            scored = _scored(loaded, titles, piece)
            read = (map(cell, row) for row in _even(piece, len(titles)))
            both = zip(read, _added(scored, cell), strict=True)
            for one in map(chain.from_iterable, both):
                write(one)
            told.add(scored[REASON])
    return told


def _writer(file: TextIO, sep: str) -> Callable[[Iterable[Any]], object]:
    """Writes rows; Python before 3.13 leaves a carriage return unquoted, which ends a row."""
    plain = csv.writer(file, delimiter=sep, lineterminator="\n")
    quoted = csv.writer(file, delimiter=sep, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Iterable[Any]) -> None:
        cells = [*row]
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoted if has_return else plain).writerow(cells)

    return write


def as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _added(scored: pd.DataFrame, cell: Callable[[str], str]) -> Iterator[list[Any]]:
    """The cells that the model adds; numbers stay numbers."""
    for row in scored.to_numpy():
        yield [cell(value) if isinstance(value, str) else value for value in row]


def _titles(
    source: Path, titles: list[str] | None, loaded: Loaded, form: dict[str, str]
) -> list[str]:
    """A file's header, if rows below it can be scored.

    Raises:
        PipelineError: it lacks a column, has one that is to be written, or there is no header.
    """
    if titles is None:
        raise PipelineError(f"{source.name} is empty", "give a file with a header and rows")
    check_titles(source, pd.Index(titles), **form)
    taken = [title for title in titles if title in loaded.added]
    if taken:
        raise PipelineError(
            f"{source.name} has a column {taken[0]!r} already, which is to be written",
            "rename it in the file",
        )
    loaded.clean(pd.DataFrame([], columns=titles, dtype="str"))
    return titles


def _scored(loaded: Loaded, titles: list[str], piece: list[list[str]]) -> pd.DataFrame:
    """The next rows' predictions; a row with too many or too few cells gets none."""
    odd = [number for number, row in enumerate(piece) if len(row) != len(titles)]
    table = pd.DataFrame([*_even(piece, len(titles))], columns=titles, dtype="str")
    scored = loaded.score(table)
    for number in odd:
        scored.iloc[number] = None
        row, width = piece[number], len(titles)
        said = f"cells: the row has {len(row)}, and the header {width}"
        said += f"; left out: {row[width:]}" if len(row) > width else ""
        scored.iloc[number, -1] = said
    return scored


def _even(piece: list[list[str]], width: int) -> Iterator[list[str]]:
    """Rows of one width."""
    for row in piece:
        yield row if len(row) == width else [*row, *[""] * width][:width]


@contextlib.contextmanager
def _rows(source: Path, sep: str, encoding: str) -> Iterator[Iterator[list[str]]]:
    """A CSV file's rows as they stand; empty lines are none.

    Raises:
        PipelineError: it is not text in that encoding, or not separated so.
    """
    try:
        with source.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=sep, skipinitialspace=True)
            yield (row for row in reader if row)
    except UnicodeError as error:
        raise wrong_encoding(source, encoding, str(error)) from error
    except LookupError as error:
        raise PipelineError(f"--encoding {encoding!r}: {error}", "use utf-8 or latin-1") from error
    except (csv.Error, TypeError) as error:
        raise PipelineError(
            f"{source.name} is not a table separated by {sep!r}: {error}",
            "give --sep, one character; look for a quotation mark that is not closed",
        ) from error


@contextlib.contextmanager
def _whole(target: Path, encoding: str) -> Iterator[TextIO]:
    """A file that appears when all of it has been written, and not before."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding=encoding, newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def main(folder: str, source: str, target: str, options: str) -> None:
    """Score a file with the model in a folder, and print what came out as JSON."""
    try:
        loaded = Loaded.from_folder(Path(folder))
        told = predict(loaded, Path(source), Path(target), **json.loads(options))
    except PipelineError as error:
        remedy = error.remedy.replace("etl.sep=", "--sep=").replace("etl.enc", "--enc")
        raise SystemExit(json.dumps([error.what, remedy])) from error
    except OSError as error:
        told = [str(error), "check the paths, the disk and its permissions"]
        raise SystemExit(json.dumps(told)) from error
    print(json.dumps(vars(told)))


if __name__ == "__main__":
    main(*sys.argv[1:])
