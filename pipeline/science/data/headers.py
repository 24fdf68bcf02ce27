"""Titles of CSV files: lines above them, and files without titles. Pure functions."""

import csv
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pipeline.core.data.formats import detect_format
from pipeline.core.errors import PipelineError
from pipeline.science.data.tables import SEPARATORS, dialect, wrong_encoding


def with_titles(
    path: Path,
    folder: Path,
    skip_lines: int = 0,
    titles: Sequence[str] = (),
    sep: str | None = None,
    encoding: str | None = None,
) -> Path:
    """A CSV file whose first line has the titles: the file itself, or a copy.

    Args:
        path: the file.
        folder: the folder for a copy, which is created.
        skip_lines: the number of lines above the titles, or above the rows if ``titles`` are given.
        titles: the titles of a file without titles.
        sep, encoding: as ``etl.sep`` and ``etl.encoding``.

    Raises:
        PipelineError: the file is no CSV file, or the numbers of lines or titles don't fit it.
    """
    if not (skip_lines or titles):
        return path
    if detect_format(path) != "csv":
        raise PipelineError(
            f"{path.name} is not a CSV file, and etl.skip_lines and etl.titles are for CSV files",
            "leave them out",
        )
    sep, codec = dialect(sep, encoding)
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / path.name
    try:
        with (
            path.open(encoding=codec, newline="") as source,
            copy.open("w", encoding=codec, newline="") as target,
        ):
            skipped = sum(1 for _ in islice(source, skip_lines))
            first = source.readline()
            if not first:
                raise PipelineError(
                    f"etl.skip_lines={skip_lines}, and {path.name} has {skipped} lines",
                    "set the number of lines above the table",
                )
            width = len(next(csv.reader([first], delimiter=sep), []))
            if titles and width != len(titles):
                raise PipelineError(
                    f"etl.titles has {len(titles)} titles, and the first row of {path.name} has "
                    f"{width} cells",
                    "give each column a title; etl.sep is the character between the cells",
                )
            if titles:
                csv.writer(target, delimiter=sep, lineterminator="\n").writerow(titles)
            target.write(first)
            shutil.copyfileobj(source, target)
    except (UnicodeError, LookupError) as error:
        raise wrong_encoding(path, codec, str(error)) from error
    return copy


def count_leading_lines(lines: Sequence[str], sep: str) -> int:
    """The number of lines above a table: the first ones with fewer cells than most lines."""
    if sep not in SEPARATORS:
        return 0
    widths = [len(row) for row in csv.reader(lines, delimiter=sep)]
    usual = max(set(widths), key=widths.count, default=1)
    above = next((number for number, width in enumerate(widths) if width >= usual), 0)
    return above if usual > 1 else 0
