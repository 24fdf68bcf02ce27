"""Lists and removes runs and artifact versions in Trackio's local store."""

import contextlib
import re
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core import settings
from pipeline.tracking import local_records

# Import Trackio from trackio.runs, which sets TRACKIO_DIR before trackio is imported.
from pipeline.tracking.trackio.runs import SQLiteStorage, blob_path, project_media_dir, remove_links

DIGEST = re.compile("[0-9a-f]{64}")  # the name of a file in the store


def _databases() -> list[Path]:
    """The local store's databases, one for each project."""
    remove_links()
    return sorted(settings.trackio_dir().glob("*.db"))


def versions() -> Iterator[tuple[str, str, dict[str, Any], set[str | None]]]:
    """Every artifact version in the local store.

    Yields:
        Project, artifact name, Trackio's record of the version, and the names of the runs that
        logged this content.
    """
    query = (
        "SELECT id, producer_run_name AS maker FROM artifact_versions UNION SELECT "
        "artifact_version_id, run_name FROM run_artifact_links WHERE direction = 'output'"
    )
    for database in _databases():
        project, makers = database.stem, defaultdict(set)
        with SQLiteStorage._get_connection(database) as connection:  # noqa: SLF001 - Trackio has no public call
            for row in connection.execute(query):
                makers[row["id"]].add(row["maker"])
        for artifact in SQLiteStorage.list_artifacts(project):
            for version in artifact["versions"]:
                yield project, artifact["name"], version, makers[version["version_id"]]


def remove_versions(chosen: list[tuple[str, str, int]]) -> None:
    """Remove artifact versions, and the files that no other version has; ``latest`` moves back.

    Trackio has no call for that. This follows its ``overwrite``, for single versions.

    Args:
        chosen: project, artifact name and version number of each.
    """
    for project in {project for project, _, _ in chosen}:
        unwanted = {(name, version) for owner, name, version in chosen if owner == project}
        database = SQLiteStorage.get_project_db_path(project)
        with (
            SQLiteStorage._get_process_lock(project),  # noqa: SLF001 - Trackio has no public call
            SQLiteStorage._get_connection(database) as connection,  # noqa: SLF001 - Trackio has no public call
        ):
            freed = _remove_rows(connection, unwanted)
        # Remove only these files: a step may have stored a file and not yet its version.
        for digest in filter(DIGEST.fullmatch, freed):
            blob_path(project, digest).unlink(missing_ok=True)


def _remove_rows(connection: sqlite3.Connection, unwanted: set[tuple[str, int]]) -> set[str]:
    """Delete versions in one transaction; return the digests that no other version uses."""
    rows = connection.execute(
        "SELECT v.id, v.artifact_id, v.version, v.manifest, a.name FROM artifact_versions v "
        "JOIN artifacts a ON a.id = v.artifact_id"
    ).fetchall()
    candidates, shared = set(), set()
    for row in rows:
        if (row["name"], row["version"]) not in unwanted:
            shared |= local_records.digests(row["manifest"])
        else:
            candidates |= local_records.digests(row["manifest"])
            for table in ("artifact_aliases", "run_artifact_links"):
                sql = f"DELETE FROM {table} WHERE artifact_version_id = ?"
                connection.execute(sql, (row["id"],))
            connection.execute("DELETE FROM artifact_versions WHERE id = ?", (row["id"],))
    connection.execute(
        "DELETE FROM artifacts WHERE id NOT IN (SELECT artifact_id FROM artifact_versions)"
    )
    connection.execute(
        "INSERT OR IGNORE INTO artifact_aliases (artifact_id, alias, artifact_version_id) "
        "SELECT artifact_id, 'latest', id FROM artifact_versions v WHERE version = "
        "(SELECT MAX(version) FROM artifact_versions w WHERE w.artifact_id = v.artifact_id)"
    )
    connection.commit()
    return candidates - shared


def runs() -> Iterator[tuple[str, str, str]]:
    """Every run in the local store: its project, name and id."""
    for database in _databases():
        for record in SQLiteStorage.get_run_records(database.stem):
            yield database.stem, record["name"] or "", record["id"] or ""


def remove_runs(chosen: list[tuple[str, str, str]]) -> None:
    """Remove runs and their logs; artifact versions stay.

    Args:
        chosen: project, name and id of each.
    """
    for project, name, id in chosen:
        SQLiteStorage.delete_run(project, name, id)
        if Path(name).name == name:  # a name in the database must not lead to another folder
            shutil.rmtree(project_media_dir(project) / name, ignore_errors=True)
    for project in {project for project, *_ in chosen}:
        database = SQLiteStorage.get_project_db_path(project)
        with contextlib.closing(sqlite3.connect(database)) as store:
            store.execute("VACUUM")
