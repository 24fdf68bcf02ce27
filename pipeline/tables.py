"""Tables as files: reading a CSV of unknown origin, and reading and writing our own."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.errors import PipelineError

SEPARATORS = (";", "\t", "|")
SYMBOLS = {"#": "number", "%": "percent"}


def snake_case(title: str) -> str:
    """A column title as a name: ``Sp. Atk`` becomes ``sp_atk``, ``#`` becomes ``number``."""
    text = unicodedata.normalize("NFC", str(title)).strip()
    text = SYMBOLS.get(text, text)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"\W+|_+", "_", text).strip("_").lower() or "column"


def read_raw(
    path: Path,
    sep: str | None = None,
    encoding: str | None = None,
    missing: Sequence[str] = ("",),
    text_columns: Sequence[str] = (),
) -> pd.DataFrame:
    """Read somebody's CSV file; titles and cells are left as they stand.

    Args:
        path: the file.
        sep: the character between cells; None means a comma.
        encoding: None means UTF-8, with or without a byte order mark.
        missing: cells that mean "no value".
        text_columns: names (in snake case) of columns to keep as text, ``007`` and all.

    Raises:
        PipelineError: it is not a table in that form; says what to set.
    """
    form = {"sep": sep or ",", "encoding": encoding or "utf-8-sig"}
    try:
        titles = pd.read_csv(path, nrows=0, **form).columns
        return pd.read_csv(
            path,
            **form,
            keep_default_na=False,
            na_values=list(missing),
            skipinitialspace=True,
            low_memory=False,
            float_precision="round_trip",
            dtype_backend="numpy_nullable",  # whole numbers stay whole beside missing ones
            dtype={title: "string" for title in titles if snake_case(title) in text_columns},
        )
    except UnicodeError as error:
        raise PipelineError(
            f"{path.name} is not text in {form['encoding']}: {error}",
            "set data.encoding to the file's encoding, for example latin-1, cp1252 or utf-16",
        ) from error
    except LookupError as error:
        raise PipelineError(
            f"data.encoding={encoding!r}: {error}", "use utf-8 or latin-1"
        ) from error
    except pd.errors.EmptyDataError as error:
        raise PipelineError(f"{path.name} is empty", "check data.file_url") from error
    except pd.errors.ParserError as error:
        raise PipelineError(
            f"{path.name} is not a table separated by {form['sep']!r}: {error}",
            "set data.sep to the character between the cells, for example data.sep=';'",
        ) from error


def require_columns(path: Path, frame: pd.DataFrame, sep: str | None) -> None:
    """Refuse a table read with the wrong separator: one column whose title holds another one.

    Raises:
        PipelineError: names the separator that was found.
    """
    if frame.shape[1] != 1:
        return
    title = str(frame.columns[0])
    found = [char for char in (*SEPARATORS, ",") if char in title and char != (sep or ",")]
    if found:
        raise PipelineError(
            f"{path.name} has one column, {title[:60]!r}: it looks separated by {found[0]!r}, "
            f"and was read with {sep or ','!r}",
            f"set data.sep={found[0]!r}".replace("'\\t'", '"\\t"'),
        )


def read_table(path: Path) -> pd.DataFrame:
    """Read a table written by :func:`write_table`, words like ``None`` and ``NA`` as words."""
    return pd.read_csv(
        path,
        keep_default_na=False,
        na_values=[""],
        low_memory=False,
        float_precision="round_trip",
    )


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table so that the same rows always give the same bytes."""
    frame.to_csv(path, index=False, encoding="utf-8", lineterminator="\n")
    return path
