"""MLflow's local store, made by several processes at once or by one that is killed."""

import signal
from pathlib import Path

import pytest

from pipeline.tracking.mlflow import store as mlflow_store
from tests.support.mlflow_stores import CONNECT, Home, rows, schema

WAIT = "\nprint('ready', flush=True); input()\n"
LIMIT = 400_000  # bytes: less than half of a template
CUT = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
CUT += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in home.variables.items():
        monkeypatch.setenv(name, value)
    return home


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
