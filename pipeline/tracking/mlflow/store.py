"""MLflow's store: one SQLite database in the state folder, or the server that was named."""

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

from pipeline.core import databases, secrets, settings, variables
from pipeline.core.addresses import local_folder
from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest, write_whole

DIGEST = ".sha256"  # of a template, beside it
EXPERIMENT_KIND = "mlflow.experimentKind"  # by which MLflow's pages show runs, and not traces


def client() -> mlflow.MlflowClient:
    """MLflow, pointed at its store; a local store is made first, if it is missing.

    Raises:
        PipelineError: it is on a server, and nobody answers there.
    """
    _reach(settings.tracking_uri())
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
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # errors are told by us


@cache
def _reach(uri: str) -> None:
    """MLflow itself would try for four minutes where nobody answers."""
    if not uri.startswith(("http:", "https:")):
        return
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=settings.tracker_timeout()).close()
    except requests.exceptions.SSLError:
        return  # somebody is there; MLflow knows which certificates it may trust
    except requests.RequestException as error:
        raise PipelineError(
            f"no MLflow server answers at MLFLOW_TRACKING_URI={location()} "
            f"({type(error).__name__})",
            "start it, or correct the address; without one, runs are kept in the state folder",
        ) from error


def location() -> str:
    """Where MLflow keeps runs, without a user's name and password."""
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
    """The same, to read what is there; a local store is not made.

    Raises:
        PipelineError: nothing has been recorded yet.
    """
    file = settings.sqlite_path(settings.tracking_uri())
    if file and not file.exists():
        raise PipelineError(f"nothing has been recorded yet: no {file}", "make run comes first")
    return client()


def connect(experiment: str) -> str:
    """Point MLflow at the store, and make the experiment if it is new; returns its id.

    Experiments of a local store are made under a lock, and keep their files in the state folder
    rather than in the current one.
    """
    store, root = client(), settings.artifact_root()
    if settings.mlflow_on_server():
        found = _experiment_id(store, experiment, root)
    else:
        state = settings.state_dir()
        state.mkdir(parents=True, exist_ok=True)
        local = (state / "mlflow" / "artifacts").as_uri()
        with FileLock(state / "mlflow.lock"):
            found = _experiment_id(store, experiment, root or local)
    place = store.get_experiment(found).artifact_location if root else root
    if place != root:
        raise PipelineError(
            f"MLflow keeps the files of experiment {experiment!r} in {place}, "
            f"and main.artifact_root is {root}",
            "choose another main.experiment_name: an experiment's place is fixed when it is made",
        )
    return found


def make_store(file: Path) -> None:
    """Make a missing SQLite store, as a copy of the template; bring another one up to date.

    MLflow's own migrations are slow, not safe to run concurrently, and leave a store that no
    MLflow can open if they are interrupted. So a store is migrated beside its place, and the
    earlier one is kept as ``mlflow.db.before-VERSION``.

    Raises:
        PipelineError: a newer MLflow has made it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    _make_whole(file, lambda partial: shutil.copyfile(_template(), partial))
    with contextlib.suppress(sqlite3.DatabaseError):  # MLflow says what is wrong with such a file
        wanted = _revision(_template())
        if _revision(file) != wanted:
            with FileLock(f"{file}.lock"):
                found = _revision(file)
                half_made = found is None and _tables(file) <= _tables(_template())
                if half_made or found not in (None, wanted):  # not a database of something else
                    _renew(file, half_made)


def _revision(file: Path) -> str | None:
    """The revision of a store's tables; None where MLflow has not finished to make them."""
    with contextlib.closing(
        sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
    ) as store:
        try:
            found = store.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
    return found[0] if found else None


def _tables(file: Path) -> set[str]:
    """The names of a database's tables."""
    with contextlib.closing(sqlite3.connect(file)) as store:
        return {name for (name,) in store.execute("SELECT name FROM sqlite_master")}


def _renew(file: Path, half_made: bool) -> None:
    """Put a store of the installed MLflow in the place of another one, which is kept beside it."""
    import sqlalchemy
    from alembic.util import CommandError
    from mlflow.store.db import utils

    partial = Path(f"{file}.partial")
    kept = file.with_name(f"{file.name}.before-{mlflow.__version__}")
    if half_made:
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
    shutil.copyfile(file, kept)
    partial.replace(file)
    what = "half made" if half_made else "made by an earlier MLflow"
    print(f"{file} was {what} and is renewed; the earlier one is {kept.name}")


def _template() -> Path:
    """The empty store of the installed MLflow, migrated once and kept in the user's cache folder.

    Its digest is kept beside it: a template that was damaged is made again, not copied. Where the
    cache folder can't be written, the template is kept in the state folder.
    """
    name = f"mlflow-{mlflow.__version__}.db"
    try:
        file = settings.cache_dir() / name
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_whole(file, _make_template, _is_whole)
    except (OSError, RuntimeError):  # the latter where this user has no home
        file = settings.state_dir() / name
        file.parent.mkdir(parents=True, exist_ok=True)
        _make_whole(file, _make_template, _is_whole)
    return file


def _make_template(partial: Path) -> None:
    _migrate(partial)
    digest = partial.with_suffix(DIGEST)
    write_whole(digest, file_digest(partial))


def _is_whole(template: Path) -> bool:
    """Whether a template is there as it was made."""
    digest = Path(f"{template}{DIGEST}")
    return (
        template.is_file()
        and digest.is_file()
        and digest.read_bytes() == file_digest(template).encode()
    )


def _make_whole(
    file: Path, write: Callable[[Path], object], is_whole: Callable[[Path], bool] = Path.exists
) -> None:
    """Write a missing file beside its place and move it there: nobody ever sees a part of it."""
    if is_whole(file):
        return
    with FileLock(f"{file}.lock"):
        if is_whole(file):  # another process was faster
            return
        partial = Path(f"{file}.partial")
        write(partial)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(file)


def _migrate(file: Path) -> None:
    """Write an empty store with MLflow's own migrations.

    They run in memory: on disk they take five times as long, and leave a journal if interrupted.
    The default experiment is not in it: its artifact location depends on the current folder, and
    MLflow adds it when it first opens a store.
    """
    import sqlalchemy
    from mlflow.store.db import utils

    _quiet_migrations()
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        only = {"creator": lambda: memory, "poolclass": sqlalchemy.StaticPool}
        engine = sqlalchemy.create_engine("sqlite://", **only)
        utils._initialize_tables(engine)  # noqa: SLF001 - the public one is a command
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        try:
            memory.execute("VACUUM INTO ?", (str(file),))
        except sqlite3.Error as error:  # a full disk
            raise OSError(f"{file} can't be written: {error}") from error


def _experiment_id(client: mlflow.MlflowClient, name: str, location: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id
    try:
        return client.create_experiment(
            name, location, {EXPERIMENT_KIND: "custom_model_development"}
        )
    except MlflowException:
        found = client.get_experiment_by_name(name)  # somebody on the same server was faster
        if found is None:
            raise
        return found.experiment_id


def active_run(name: str) -> AbstractContextManager[mlflow.ActiveRun]:
    """The run that MLflow started this step in; alone, a new one in the experiment."""
    if os.environ.get("MLFLOW_RUN_ID"):
        return mlflow.start_run()
    return mlflow.start_run(experiment_id=connect(settings.experiment()), run_name=name)


def requirements(*packages: str) -> list[str]:
    """Pins of the packages that a model needs, at the versions it was made with."""
    return [f"{name}=={metadata.version(name)}" for name in packages]


def addresses(client: mlflow.MlflowClient, run_id: str) -> list[str]:
    """Where MLflow keeps a run's files, and those of the models that it has logged."""
    run = client.get_run(run_id)
    models = run.outputs.model_outputs if run.outputs else []
    places = [client.get_logged_model(one.model_id).artifact_location for one in models]
    return [run.info.artifact_uri, *places]


def local_files(addresses: Iterable[str]) -> dict[str, str]:
    """The files below these addresses that are in the state folder: their digests by place in it.

    What is elsewhere, or on a server, is not this machine's to check.
    """
    state, found = settings.state_dir(), dict[str, str]()
    for address in addresses:
        folder = local_folder(address)
        if folder and folder.is_relative_to(state):
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            found |= {path.relative_to(state).as_posix(): file_digest(path) for path in files}
    return found


def children(client: mlflow.MlflowClient, experiment: str, parent: str) -> list[Run]:
    """The runs below a parent run."""
    below = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"
    return [*every(client.search_runs, experiment_ids=[experiment], filter_string=below)]


def kill_run(client: mlflow.MlflowClient, parent: Run) -> None:
    """Mark a run and all below it as KILLED, where they are said to run; the lowest first."""
    for run in children(client, parent.info.experiment_id, parent.info.run_id):
        if run.info.status == "RUNNING":
            kill_run(client, run)
    if parent.info.status == "RUNNING":
        client.set_terminated(parent.info.run_id, "KILLED")


def model_versions(client: mlflow.MlflowClient) -> Iterator[tuple[Any, bool]]:
    """Every version of every registered model, and whether it has an alias."""
    aliased = {
        (model.name, str(version))
        for model in every(client.search_registered_models)
        for version in model.aliases.values()
    }
    for version in every(client.search_model_versions):
        yield version, (version.name, str(version.version)) in aliased


def every(search: Callable[..., Any], **given: Any) -> Iterator[Any]:
    """Every page of a search."""
    token = None
    while True:
        page = search(page_token=token, **given)
        yield from page
        token = page.token
        if not token:
            return
