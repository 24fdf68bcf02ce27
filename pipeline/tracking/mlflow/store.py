"""MLflow's store: an SQLite database in the state folder, or the user's server."""

import contextlib
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import requests
from filelock import FileLock
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline.core import databases, settings, variables
from pipeline.core.data.addresses import local_folder
from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest, write_whole
from pipeline.core.security import secrets

DIGEST = ".sha256"  # suffix of the file with a template's digest
EXPERIMENT_KIND = "mlflow.experimentKind"  # tag that makes MLflow's pages show runs, not traces


def client() -> mlflow.MlflowClient:
    """MLflow's client for its store; a missing local store is created first.

    Raises:
        PipelineError: the store is on a server that does not answer.
    """
    _require_server(settings.tracking_uri())
    _quiet_migrations()
    variables.set_defaults({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
    file = settings.sqlite_path(settings.tracking_uri())
    if file and file.name != ":memory:":
        databases.check(file)
        make_store(file)
    mlflow.set_tracking_uri(settings.tracking_uri())
    return mlflow.MlflowClient()


def _quiet_migrations() -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # we report errors


@cache
def _require_server(uri: str) -> None:
    """Check once that the server answers; MLflow itself would retry for four minutes.

    Raises:
        PipelineError: it does not answer.
    """
    if not uri.startswith(("http:", "https:")):
        return
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=settings.tracker_timeout()).close()
    except requests.exceptions.SSLError:
        return  # the server answers; MLflow has its own settings for certificates
    except requests.RequestException as error:
        raise PipelineError(
            f"no MLflow server answers at MLFLOW_TRACKING_URI={location()} "
            f"({type(error).__name__})",
            "start it, or correct the address; without one, runs are kept in the state folder",
        ) from error


def location() -> str:
    """The address of MLflow's store, without user name and password."""
    return secrets.without_login(settings.tracking_uri()).partition("?")[0]


def _without_logins(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Translate MLflow's errors into short ones.

    Raises:
        PipelineError: MLflow, or the connection to its server, failed.
    """
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        message = _without_logins(str(error)).partition("\n")[0][:300]
        raise PipelineError(
            f"MLflow with the store {location()} failed: {message}",
            "correct that and run again: finished steps are reused",
        ) from error


def existing() -> mlflow.MlflowClient:
    """MLflow's client for its store, if that exists; a local store is not created.

    Raises:
        PipelineError: nothing has been recorded yet.
    """
    file = settings.sqlite_path(settings.tracking_uri())
    if file and not file.exists():
        raise PipelineError(f"nothing has been recorded yet: no {file}", "make run comes first")
    return client()


def connect(experiment: str) -> str:
    """Point MLflow at the store, create the experiment if it is new, and return its id.

    A local store's experiments are created under a lock, with their files in the state folder
    instead of the current folder.

    Raises:
        PipelineError: the experiment exists with another artifact location.
    """
    store, root = client(), settings.artifact_root()
    if settings.mlflow_on_server():
        experiment_id = _experiment_id(store, experiment, root)
    else:
        state = settings.state_dir()
        state.mkdir(parents=True, exist_ok=True)
        local = (state / "mlflow" / "artifacts").as_uri()
        with FileLock(state / "mlflow.lock"):
            experiment_id = _experiment_id(store, experiment, root or local)
    artifact_location = store.get_experiment(experiment_id).artifact_location if root else root
    if artifact_location != root:
        raise PipelineError(
            f"MLflow keeps the files of experiment {experiment!r} in {artifact_location}, "
            f"and main.artifact_root is {root}",
            "choose another main.experiment_name: an experiment's artifact location can't change",
        )
    return experiment_id


def make_store(file: Path) -> None:
    """Create a missing SQLite store as a copy of the template; upgrade an outdated store.

    MLflow's migrations are slow and not safe to run concurrently, and an interrupted migration
    leaves a store that no MLflow can open. So a copy of the store is migrated, and the earlier
    store is kept as ``mlflow.db.before-VERSION``.

    Raises:
        PipelineError: a newer MLflow made the store.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_atomically(file, lambda partial: shutil.copyfile(_template(), partial))
    with contextlib.suppress(sqlite3.DatabaseError):  # MLflow reports a damaged file
        current = _revision(_template())
        if _revision(file) != current:
            with FileLock(f"{file}.lock"):
                revision = _revision(file)
                is_incomplete = revision is None and _tables(file) <= _tables(_template())
                is_other_version = revision not in (None, current)  # None: another program's
                if is_incomplete or is_other_version:
                    _upgrade(file, is_incomplete)


def _revision(file: Path) -> str | None:
    """The revision of a store's schema; None if MLflow has not finished creating it."""
    with contextlib.closing(
        sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
    ) as store:
        try:
            row = store.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
    return row[0] if row else None


def _tables(file: Path) -> set[str]:
    """The names of a database's tables."""
    with contextlib.closing(sqlite3.connect(file)) as store:
        return {name for (name,) in store.execute("SELECT name FROM sqlite_master")}


def _upgrade(file: Path, is_incomplete: bool) -> None:
    """Replace a store by one of the installed MLflow's schema, and keep a backup beside it.

    Args:
        file: the store.
        is_incomplete: whether an interrupted MLflow left it without data. The template replaces
            such a store; a copy of another store is migrated.

    Raises:
        PipelineError: a newer MLflow made the store.
    """
    import sqlalchemy
    from alembic.util import CommandError
    from mlflow.store.db import utils

    partial = Path(f"{file}.partial")
    backup = file.with_name(f"{file.name}.before-{mlflow.__version__}")
    if is_incomplete:
        shutil.copyfile(_template(), partial)
    else:
        partial.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(file)) as source,
            contextlib.closing(sqlite3.connect(partial)) as target,
        ):
            source.backup(target)
        engine = sqlalchemy.create_engine(f"sqlite:///{partial}")
        try:
            utils._upgrade_db(engine)  # noqa: SLF001 - the public one is a command
        except CommandError as error:
            partial.unlink()
            raise PipelineError(
                f"{file} was made by a newer MLflow than {mlflow.__version__} ({error})",
                "install that one, or choose another main.state_dir",
            ) from error
        finally:
            engine.dispose()
    shutil.copyfile(file, backup)
    partial.replace(file)
    reason = "incomplete" if is_incomplete else "made by an earlier MLflow"
    print(f"{file} was {reason} and is replaced; the earlier store is kept as {backup.name}")


def _template() -> Path:
    """The path of an empty store of the installed MLflow, cached in the user's cache folder.

    Its digest is stored beside it, so that a damaged template is recreated. If the cache folder
    can't be written, the template is stored in the state folder.
    """
    name = f"mlflow-{mlflow.__version__}.db"
    try:
        file = settings.cache_dir() / name
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_atomically(file, _make_template, _is_intact)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        file = settings.state_dir() / name
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(file, _make_template, _is_intact)
    return file


def _make_template(partial: Path) -> None:
    _migrate(partial)
    digest = partial.with_suffix(DIGEST)
    write_whole(digest, file_digest(partial))


def _is_intact(template: Path) -> bool:
    """Whether a template exists and has its recorded digest."""
    digest = Path(f"{template}{DIGEST}")
    return (
        template.is_file()
        and digest.is_file()
        and digest.read_bytes() == file_digest(template).encode()
    )


def _write_atomically(
    file: Path, write: Callable[[Path], object], is_intact: Callable[[Path], bool] = Path.exists
) -> None:
    """Create a missing file under a lock, through a temporary file beside it.

    Args:
        file: the file.
        write: writes the temporary file.
        is_intact: tells whether an existing file is valid.
    """
    if is_intact(file):
        return
    with FileLock(f"{file}.lock"):
        if is_intact(file):  # another process was faster
            return
        partial = Path(f"{file}.partial")
        write(partial)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)


def _migrate(file: Path) -> None:
    """Write an empty store with MLflow's own migrations.

    They run in memory, because on disk they take five times as long and leave a journal if
    interrupted. The default experiment is not in the store: its artifact location depends on the
    current folder, and MLflow adds it when it first opens a store.
    """
    import sqlalchemy
    from mlflow.store.db import utils

    _quiet_migrations()
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        options = {"creator": lambda: memory, "poolclass": sqlalchemy.StaticPool}
        engine = sqlalchemy.create_engine("sqlite://", **options)
        utils._initialize_tables(engine)  # noqa: SLF001 - the public one is a command
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        try:
            memory.execute("VACUUM INTO ?", (str(file),))
        except sqlite3.Error as error:  # a full disk
            raise OSError(f"{file} can't be written: {error}") from error


def _experiment_id(client: mlflow.MlflowClient, name: str, location: str | None) -> str:
    stored = client.get_experiment_by_name(name)
    if stored is not None:
        if stored.lifecycle_stage == "deleted":
            client.restore_experiment(stored.experiment_id)
        return stored.experiment_id
    try:
        return client.create_experiment(
            name, location, {EXPERIMENT_KIND: "custom_model_development"}
        )
    except MlflowException:
        stored = client.get_experiment_by_name(name)  # another user of the server was faster
        if stored is None:
            raise
        return stored.experiment_id


def active_run(name: str) -> AbstractContextManager[mlflow.ActiveRun]:
    """The run that MLflow started for this step; without one, a new run in the experiment."""
    if os.environ.get("MLFLOW_RUN_ID"):
        return mlflow.start_run()
    return mlflow.start_run(experiment_id=connect(settings.experiment()), run_name=name)


def requirements(*packages: str) -> list[str]:
    """Requirements that pin packages to their installed versions."""
    return [f"{name}=={metadata.version(name)}" for name in packages]


def addresses(client: mlflow.MlflowClient, run_id: str) -> list[str]:
    """The artifact locations of a run and of its logged models."""
    run = client.get_run(run_id)
    models = run.outputs.model_outputs if run.outputs else []
    locations = [client.get_logged_model(output.model_id).artifact_location for output in models]
    return [run.info.artifact_uri or "", *locations]


def local_files(addresses: Iterable[str]) -> dict[str, str]:
    """The digests of the files below these addresses, by path relative to the state folder.

    Files elsewhere, or on a server, are not checked.
    """
    state, digests = settings.state_dir(), dict[str, str]()
    for address in addresses:
        folder = local_folder(address)
        if folder and folder.is_relative_to(state):
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            digests |= {path.relative_to(state).as_posix(): file_digest(path) for path in files}
    return digests


def children(client: mlflow.MlflowClient, experiment: str, parent: str) -> list[Run]:
    """The child runs of a run."""
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"
    return [*all_pages(client.search_runs, experiment_ids=[experiment], filter_string=query)]


def kill_run(client: mlflow.MlflowClient, parent: Run) -> None:
    """Mark a run and its descendants as KILLED if their status is RUNNING, descendants first."""
    for run in children(client, parent.info.experiment_id, parent.info.run_id):
        if run.info.status == "RUNNING":
            kill_run(client, run)
    if parent.info.status == "RUNNING":
        client.set_terminated(parent.info.run_id, "KILLED")


def model_versions(client: mlflow.MlflowClient) -> Iterator[tuple[Any, bool]]:
    """Every version of every registered model, and whether it has an alias."""
    aliased = {
        (model.name, str(version))
        for model in all_pages(client.search_registered_models)
        for version in model.aliases.values()
    }
    for version in all_pages(client.search_model_versions):
        yield version, (version.name, str(version.version)) in aliased


def all_pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    """The results of a search, from all its pages."""
    token = None
    while True:
        page = search(page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return
