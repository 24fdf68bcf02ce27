"""MLflow's local store: a copy of a template that the installed MLflow migrates once."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from pipeline.core.errors import PipelineError
from pipeline.tracking import mlflow_store
from tests.support.paths import ROOT
from tests.support.runs import environment

CONNECT = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pipeline.tracking import mlflow_store\n"
)
CONNECT += "print(mlflow_store.connect('dev'))"
WAIT = "\nprint('ready', flush=True); input()\n"
LIMIT = 400_000  # bytes: less than half of a template
CUT = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
CUT += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))\n"


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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in home.variables.items():
        monkeypatch.setenv(name, value)
    return home


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


def identity(file: Path) -> tuple[int, int]:
    """What changes when a file is written again."""
    return file.stat().st_ino, file.stat().st_mtime_ns


def test_a_new_store_is_what_mlflow_makes(home: Home):
    mlflow_store.make_store(home.store)
    by_mlflow = home.folder / "by_mlflow.db"
    SqlAlchemyStore(f"sqlite:///{by_mlflow}", str(home.folder / "files"))._dispose_engine()
    assert schema(home.store) == schema(by_mlflow)
    assert rows(home.store, "pragma integrity_check") == [("ok",)]
    assert rows(home.store, "select * from experiments") == []


def test_the_template_is_made_once_for_its_owner_alone(home: Home):
    mlflow_store.make_store(home.store)
    made = identity(home.template)
    mlflow_store.make_store(home.folder / "another" / "mlflow.db")
    assert identity(home.template) == made
    assert home.template.parent.stat().st_mode & 0o777 == 0o700
    assert home.template.stat().st_mode & 0o777 == 0o600


def test_a_store_that_exists_is_left_alone(home: Home):
    mlflow_store.make_store(home.store)
    made = identity(home.store)
    mlflow_store.make_store(home.store)
    assert identity(home.store) == made


def test_half_made_files_are_ignored(home: Home):
    mlflow_store.make_store(home.store)
    whole, expected = home.template.read_bytes(), schema(home.store)
    for file in (home.template, home.store):
        file.unlink()
        Path(f"{file}.partial").write_bytes(whole[: len(whole) // 3])
    mlflow_store.make_store(home.store)
    assert schema(home.store) == expected
    assert not list(home.folder.rglob("*.partial"))


def test_a_cache_folder_that_cannot_be_written(home: Home):
    Path(home.variables["XDG_CACHE_HOME"]).write_text("a file, not a folder")
    mlflow_store.make_store(home.store)
    assert schema(home.store) == schema(home.store.with_name(home.template.name))


def test_several_processes_at_once(home: Home):
    processes = [home.start(CONNECT.replace("\n", WAIT)) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [(*process.communicate(timeout=600), process.returncode) for process in processes]
    assert [(out, status) for out, _, status in ends] == [("1\n", 0)] * 4, ends
    experiments = rows(home.store, "select name, artifact_location from experiments")
    assert dict(experiments) == {
        "Default": str(home.folder / "mlruns" / "0"),  # of the current folder, as ever
        "dev": (home.store.parent / "mlflow" / "artifacts").as_uri(),
    }
    assert rows(home.template, "select * from experiments") == []


@pytest.mark.parametrize("victim", ["template", "store"])
def test_a_kill_in_the_middle_of_writing(home: Home, victim: str):
    """The kernel kills the process at a given size of the file, so no time is measured."""
    if victim == "store":
        mlflow_store.make_store(home.folder / "another.db")  # and with it the template
    killed = home.start(CONNECT.replace("\n", f"\n{CUT}"))
    _, error = killed.communicate(timeout=600)
    assert killed.returncode == -signal.SIGXFSZ, error
    file = getattr(home, victim)
    assert 0 < Path(f"{file}.partial").stat().st_size <= LIMIT
    assert not file.exists()

    after = home.start()
    out, error = after.communicate(timeout=600)
    assert (after.returncode, out) == (0, "1\n"), error
    assert not list(home.folder.rglob("*.partial"))
    assert schema(home.store) == schema(home.template)


def test_a_database_that_the_user_names(home: Home):
    named = home.folder / "elsewhere" / "runs.db"
    process = home.start(MLFLOW_TRACKING_URI=f"sqlite:///{named}?timeout=30")
    out, error = process.communicate(timeout=600)
    assert (process.returncode, out) == (0, "1\n"), error
    assert schema(named) == schema(home.template)
    assert not home.store.exists()


def test_reading_makes_no_store(home: Home):
    with pytest.raises(PipelineError, match="nothing has been recorded yet"):
        mlflow_store.existing()
    assert list(home.folder.iterdir()) == []
