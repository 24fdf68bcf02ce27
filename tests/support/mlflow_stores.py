"""MLflow's local store in a home of its own, and what is in it."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow

from tests.support.paths import ROOT
from tests.support.runs import environment

CONNECT = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pipeline.tracking.mlflow import store\n"
)
CONNECT += "print(store.connect('dev'))"


class Home:
    """A cache folder and a state folder; both are new."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.store = folder / "state" / "mlflow.db"
        self.template = folder / "cache" / "mlflow-pipeline" / f"mlflow-{mlflow.__version__}.db"
        self.variables = {
            "PIPELINE_STATE_DIR": str(self.store.parent),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def start(self, program: str = CONNECT, **variables: str) -> subprocess.Popen:
        """Start a process that uses the store."""
        return subprocess.Popen(
            [sys.executable, "-B", "-c", program],
            cwd=self.folder,
            env=environment(self.folder, **{**self.variables, **variables}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def rows(file: Path, query: str) -> list[tuple]:
    """What a database answers."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchall()


def schema(file: Path) -> dict[str, list[str]]:
    """Each table and index, and the migration that it is at.

    MLflow names the constraints of a table in any order, so its lines are sorted.
    """
    tables = rows(file, "select name, sql from sqlite_master where sql is not null")
    lines = {name: sorted(line.rstrip(", ") for line in sql.splitlines()) for name, sql in tables}
    return {**lines, "version": rows(file, "select version_num from alembic_version")}
