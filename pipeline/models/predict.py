"""Scores a CSV file of raw rows in chunks; the output has every row, in the same order.

Runs in the model's own environment: ``python -m pipeline predict`` finds the model, verifies its
files and starts ``python -m pipeline.models.predict``.
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
from pipeline.models.scoring import REASON, LoadedModel
from pipeline.science.data.tables import check_titles, dialect, wrong_encoding

CHUNK = 20_000  # rows at once


@dataclass
class Summary:
    """The outcome of scoring a file.

    Attributes:
        rows: how many rows the file has.
        scored: how many of them have a prediction.
        reasons: how many have none, by the column that is the reason.
        first: by column, the first such row and its reason; row 1 follows the header.
    """

    rows: int = 0
    scored: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reasons: pd.Series) -> None:
        """Count rows by their reasons; an empty reason is a prediction."""
        for number, reason in zip(*_failed(reasons), strict=True):
            kind = reason.partition(":")[0]
            self.reasons[kind] += 1
            self.first.setdefault(kind, f"row {self.rows + number}: {reason}")
        self.rows += len(reasons)
        self.scored += int((reasons == "").sum())


def _failed(reasons: pd.Series) -> tuple[Any, Any]:
    failed = (reasons != "").to_numpy().nonzero()[0]
    return failed + 1, reasons.iloc[failed]


def predict(
    loaded: LoadedModel,
    source: Path,
    target: Path,
    sep: str | None = None,
    encoding: str | None = None,
    chunk: int = CHUNK,
    safe_for_spreadsheets: bool = False,
) -> Summary:
    """Copy a file's rows, each with a prediction or with the reason why it has none.

    The output has the file's columns, unchanged, and those that the model adds. It is written
    completely or not at all.

    Args:
        loaded: the model.
        source, target: CSV files.
        sep, encoding: of both files; by default those of the model's training data.
        chunk: rows at once; memory use grows with it, and not with the file.
        safe_for_spreadsheets: write cells that a spreadsheet would run as a formula as text.

    Raises:
        PipelineError: the file is not a table, or lacks a column that the model needs.
    """
    cleaning = loaded.cleaning
    sep, encoding = dialect(sep or cleaning.get("sep"), encoding or cleaning.get("encoding"))
    summary, to_text = Summary(), as_text if safe_for_spreadsheets else str
    with (
        _replaced(target, encoding.removesuffix("-sig")) as file,
        _rows(source, sep, encoding) as rows,
    ):
        titles = _titles(source, next(rows, None), loaded, sep, encoding)
        write = _writer(file, sep)
        write(map(to_text, [*titles, *loaded.added]))
        while chunk_rows := [*islice(rows, chunk)]:
            scored = _scored(loaded, titles, chunk_rows)
            original = (map(to_text, row) for row in _same_width(chunk_rows, len(titles)))
            joined = zip(original, _added(scored, to_text), strict=True)
            for row in map(chain.from_iterable, joined):
                write(row)
            summary.add(scored[REASON])
    return summary


def _writer(file: TextIO, sep: str) -> Callable[[Iterable[Any]], object]:
    """A function that writes a row; it quotes rows with a carriage return.

    Python before 3.13 does not quote a carriage return, and readers take it for the end of a row.
    """
    plain = csv.writer(file, delimiter=sep, lineterminator="\n")
    quoted = csv.writer(file, delimiter=sep, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Iterable[Any]) -> None:
        cells = [*row]
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoted if has_return else plain).writerow(cells)

    return write


def as_text(cell: str) -> str:
    """A cell that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _added(scored: pd.DataFrame, to_text: Callable[[str], str]) -> Iterator[list[Any]]:
    """The cells that the model adds to each row; only text is converted."""
    for row in scored.to_numpy():
        yield [to_text(value) if isinstance(value, str) else value for value in row]


def _titles(
    source: Path, titles: list[str] | None, loaded: LoadedModel, sep: str, encoding: str
) -> list[str]:
    """Check a file's header.

    Raises:
        PipelineError: there is no header, it lacks a feature, or has a column that the model adds.
    """
    if titles is None:
        raise PipelineError(f"{source.name} is empty", "give a file with a header and rows")
    check_titles(source, pd.Index(titles), sep, encoding)
    conflicts = [title for title in titles if title in loaded.added]
    if conflicts:
        raise PipelineError(
            f"{source.name} has a column {conflicts[0]!r} already, which predict writes",
            "rename the column in the file",
        )
    loaded.clean(pd.DataFrame([], columns=titles, dtype="str"))
    return titles


def _scored(loaded: LoadedModel, titles: list[str], rows: list[list[str]]) -> pd.DataFrame:
    """Score rows; a row with too many or too few cells gets a reason."""
    ragged = [number for number, row in enumerate(rows) if len(row) != len(titles)]
    table = pd.DataFrame([*_same_width(rows, len(titles))], columns=titles, dtype="str")
    scored = loaded.score(table)
    for number in ragged:
        scored.iloc[number] = None
        row, width = rows[number], len(titles)
        reason = f"cells: the row has {len(row)}, and the header {width}"
        reason += f"; left out: {row[width:]}" if len(row) > width else ""
        scored.iloc[number, -1] = reason
    return scored


def _same_width(rows: list[list[str]], width: int) -> Iterator[list[str]]:
    """Pad or cut rows to the same width."""
    for row in rows:
        yield row if len(row) == width else [*row, *[""] * width][:width]


@contextlib.contextmanager
def _rows(source: Path, sep: str, encoding: str) -> Iterator[Iterator[list[str]]]:
    """Read a CSV file's rows, without empty lines.

    Raises:
        PipelineError: the file can't be read with this separator and encoding.
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
def _replaced(target: Path, encoding: str) -> Iterator[TextIO]:
    """Open a temporary file that replaces the target when it is complete."""
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
    """Score a file with the model in a folder, and print a summary as JSON."""
    try:
        loaded = LoadedModel.from_folder(Path(folder))
        summary = predict(loaded, Path(source), Path(target), **json.loads(options))
    except PipelineError as error:
        remedy = error.remedy.replace("etl.sep=", "--sep=").replace("etl.enc", "--enc")
        raise SystemExit(json.dumps([error.what, remedy])) from error
    except OSError as error:
        remedy = "check the paths, the disk and its permissions"
        raise SystemExit(json.dumps([str(error), remedy])) from error
    print(json.dumps(vars(summary)))


if __name__ == "__main__":
    main(*sys.argv[1:])
