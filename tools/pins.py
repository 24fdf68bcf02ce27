"""Copies what the pinned versions decide into files of ours: ``python -m tools.pins``.

Versions go from requirements.lock into the conda.yml files, and the tables of an empty MLflow
database into ``mlflow_schema.sql``.
"""

import contextlib
import re
import sqlite3
import tempfile
from pathlib import Path

from pipeline.core.pins import locked
from pipeline.core.settings import ROOT

PIN = re.compile(r"^(\s+- )([A-Za-z0-9._-]+)==(\S+)$", re.MULTILINE)


def conda_files() -> list[Path]:
    """The root's conda.yml and the steps'."""
    return [ROOT / "conda.yml", *sorted(ROOT.glob("[0-9]*-*/conda.yml"))]


def pinned(text: str, versions: dict[str, str]) -> str:
    """The text of a conda.yml with each pip package at its locked version."""
    return PIN.sub(lambda pin: f"{pin[1]}{pin[2]}=={versions[pin[2]]}", text)


def mlflow_schema() -> str:
    """What the installed MLflow's migrations make of an empty SQLite database, as SQL."""
    import mlflow
    from mlflow.store.db import utils

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mlflow.db")
        engine = utils.create_sqlalchemy_engine(f"sqlite:///{file}")
        utils._initialize_tables(engine)
        engine.dispose()
        with contextlib.closing(sqlite3.connect(file)) as database:
            lines = "\n".join(database.iterdump())
    return f"-- MLflow {mlflow.__version__}: its empty database. Made by `make lock`.\n{lines}\n"


def main() -> None:
    """Rewrite the files whose pins differ, and the schema."""
    from pipeline.tracking.mlflow_store import SCHEMA

    SCHEMA.write_text(mlflow_schema(), encoding="utf-8")
    for path in conda_files():
        path.write_text(pinned(path.read_text(), locked()))


if __name__ == "__main__":
    main()
