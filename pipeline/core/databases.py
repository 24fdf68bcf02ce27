"""The SQLite files of MLflow and Trackio, asked directly: that takes no import of either."""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import errors, settings
from pipeline.core.errors import PipelineError

PATIENCE = 60.0  # seconds in which another process may be writing
BUSY = ("locked", "busy")
RESTORE = (
    "put a copy of it back; or move it away, and the next run begins a new one and runs again what "
    "is missing then"
)


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads a database, and makes none.

    It may write, where this user may: SQLite undoes what a killed process left half written
    before it reads anything, and refuses a connection that can't.

    Raises:
        PipelineError: it is damaged, or no database.
    """
    address = f"{file.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(address, PATIENCE, uri=True)) as store:
            yield store
    except sqlite3.DatabaseError as error:
        raise unreadable(file, error) from error


def unreadable(file: Path, why: object) -> PipelineError:
    """The error for a database that can't be read."""
    if "readonly" in str(why):  # SQLite writes beside a database to read it
        return errors.file_error(PermissionError(errno.EACCES, "it is read-only", str(file)))
    return PipelineError(f"the database {file} can't be read: {why}", RESTORE)


def check(file: Path, thorough: bool = False) -> None:
    """Refuse a database that is cut or no database at all; one that is not there yet is fine.

    Args:
        file: the database.
        thorough: read all of it.

    Raises:
        PipelineError: what is wrong, and what restores it.
    """
    if not file.exists() and not file.is_symlink():
        return
    try:
        with reading(file) as store:
            refuse_cut(file, store)
            rows = store.execute("PRAGMA quick_check(1)").fetchone() if thorough else ("ok",)
    except PipelineError as error:
        if any(word in error.what for word in BUSY):
            return  # somebody is writing to it
        raise
    if rows[0] != "ok":
        raise unreadable(file, rows[0])


def refuse_cut(file: Path, store: sqlite3.Connection) -> None:
    """Refuse a database whose file is shorter than it says.

    Raises:
        PipelineError: it is.
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
    """What a query finds; nothing where the file is not there yet, or not the table.

    Args:
        file: the database.
        query, values: as SQLite takes them.
        table: one that a store may lack, as before its first use.

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
    found = store.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,))
    return found.fetchone() is not None


def local() -> list[Path]:
    """The databases of this state folder that are there."""
    files = [settings.sqlite_path(settings.tracking_uri()), *settings.trackio_dir().glob("*.db")]
    return sorted(file for file in files if file and file.exists())


def damaged(thorough: bool = False) -> list[PipelineError]:
    """What is wrong with the databases of this state folder."""
    found = []
    for file in local():
        try:
            check(file, thorough)
        except PipelineError as error:
            found.append(error)
    return found


def as_pipeline_error(error: Exception) -> PipelineError | None:
    """As :func:`pipeline.core.errors.as_pipeline_error`; a database that can't be read is named."""
    told = errors.as_pipeline_error(error, settings.state_dir())
    if told is None or isinstance(error, (PipelineError, OSError)):
        return told
    return next(iter(damaged()), told)
