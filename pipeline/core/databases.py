"""Queries of MLflow's and Trackio's SQLite files, without importing either library."""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import errors, settings
from pipeline.core.errors import PipelineError

PATIENCE = 60.0  # seconds to wait for another process that is writing
BUSY = ("locked", "busy")
RESTORE = (
    "put a copy of it back; or move it away, and the next run begins a new one and runs again what "
    "is missing then"
)


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection for reading; a missing database is not created.

    The connection is writable if the user may write: after a killed process SQLite has to roll
    back a half-written transaction before it can read.

    Raises:
        PipelineError: the file is damaged, or is no database.
    """
    address = f"{file.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(address, PATIENCE, uri=True)) as store:
            yield store
    except sqlite3.DatabaseError as error:
        raise unreadable(file, error) from error


def unreadable(file: Path, reason: object) -> PipelineError:
    """The error for a database that can't be read."""
    if "readonly" in str(reason):  # SQLite writes beside a database to read it
        return errors.file_error(PermissionError(errno.EACCES, "it is read-only", str(file)))
    return PipelineError(f"the database {file} can't be read: {reason}", RESTORE)


def check(file: Path, thorough: bool = False) -> None:
    """Refuse a truncated file or one that is no database; a missing file is accepted.

    Args:
        file: the database.
        thorough: read the whole file.

    Raises:
        PipelineError: names the damage and how to restore the database.
    """
    if not file.exists() and not file.is_symlink():
        return
    try:
        with reading(file) as store:
            refuse_cut(file, store)
            rows = store.execute("PRAGMA quick_check(1)").fetchone() if thorough else ("ok",)
    except PipelineError as error:
        if any(word in error.what for word in BUSY):
            return  # another process is writing to it
        raise
    if rows[0] != "ok":
        raise unreadable(file, rows[0])


def refuse_cut(file: Path, store: sqlite3.Connection) -> None:
    """Refuse a database whose file is shorter than its header says.

    Raises:
        PipelineError: the file is truncated.
    """
    store.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (pages,) = store.execute("PRAGMA page_count").fetchone()
    (size,) = store.execute("PRAGMA page_size").fetchone()
    journal = file.with_name(f"{file.name}-wal")
    if not journal.exists() and file.stat().st_size < pages * size:
        raise unreadable(file, "it is cut off")


def rows(
    file: Path, query: str, values: Sequence[Any] = (), table: str | None = None
) -> list[tuple[Any, ...]]:
    """The rows of a query; none if the file or the table does not exist yet.

    Args:
        file: the database.
        query, values: SQL and its parameters.
        table: a table that may be missing, such as before a store's first use.

    Raises:
        PipelineError: the database is damaged, or lacks what the query names.
    """
    if not file.exists():
        return []
    with reading(file) as store:
        refuse_cut(file, store)
        if table and not has_table(store, table):
            return []
        return store.execute(query, values).fetchall()


def has_table(store: sqlite3.Connection, name: str) -> bool:
    """Whether a database has a table."""
    cursor = store.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,))
    return cursor.fetchone() is not None


def local() -> list[Path]:
    """The databases of this state folder that exist."""
    files = [settings.sqlite_path(settings.tracking_uri()), *settings.trackio_dir().glob("*.db")]
    return sorted(file for file in files if file and file.exists())


def damaged(thorough: bool = False) -> list[PipelineError]:
    """The errors of this state folder's damaged databases."""
    problems = []
    for file in local():
        try:
            check(file, thorough)
        except PipelineError as error:
            problems.append(error)
    return problems


def as_pipeline_error(error: Exception) -> PipelineError | None:
    """Like :func:`pipeline.core.errors.as_pipeline_error`, but names the damaged database."""
    readable = errors.as_pipeline_error(error, settings.state_dir())
    if readable is None or isinstance(error, (PipelineError, OSError)):
        return readable
    return next(iter(damaged()), readable)
