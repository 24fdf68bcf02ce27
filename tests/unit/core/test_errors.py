"""What a library or the system says of a failure, in terms of what to do about it."""

import errno
import sqlite3

import pytest

from pipeline.core.errors import database_error, file_error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/state/a"),
            "the disk is full: /state/a",
        ),
        (OSError(errno.EACCES, "Permission denied", "/state/a"), "no permission: /state/a"),
        (OSError(errno.EROFS, "Read-only file system", "/state/a"), "(Read-only file system)"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a"), "No such file: '/a'"),
    ],
)
def test_files(error: OSError, said: str) -> None:
    assert said in file_error(error).what


def test_databases() -> None:
    told = database_error(sqlite3.DatabaseError("file is not a database"), "/state")
    assert told.what == "a database in /state can't be used: file is not a database"
    assert "verify" in told.remedy
    told = database_error(sqlite3.OperationalError("database or disk is full"), "/state")
    assert told.what == "the disk is full: /state"
    assert database_error(ValueError("ours"), "/state") is None
