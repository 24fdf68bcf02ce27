"""A step's script that was started before its turn: it does the work, or is as good as absent."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline import fingerprint, settings
from pipeline.standby import Standbys, interpreter, record_interpreter
from tests.runs import ROOT, environment

STEP = "1-Download_data"
CODE = fingerprint.code(STEP)


@pytest.fixture
def standbys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standbys]:
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    monkeypatch.setenv(settings.TRACKER, "trackio")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    made = Standbys("local")
    made.prepare(STEP)
    yield made
    made.close()
    assert not list(tmp_path.glob("standby-*"))
    assert not [p for p in psutil.Process().children() if "script.py" in " ".join(p.cmdline())]


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess:
    """What MLflow would start for the step."""
    kept = {name: os.environ[name] for name in (settings.STANDBY,) if name in os.environ}
    return subprocess.run(
        [sys.executable, "script.py", *arguments],
        cwd=ROOT / STEP,
        env=environment(Path(os.environ["TMPDIR"]), **kept, **env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def download(folder: Path, address: str) -> subprocess.CompletedProcess:
    named = {settings.STATE_DIR: str(folder / "state"), settings.REPORT: str(folder / "report")}
    values = ["--file_url", address, "--artifact_name", "raw.csv", "--artifact_type", "raw_data"]
    return command(*values, "--artifact_description", "", **named)


def used(standbys: Standbys) -> bool:
    """Whether the one in standby ended by itself, as one that had its turn does."""
    return bool(standbys._used) and standbys._used[0]._process.wait(60) is not None


def test_it_does_the_work(standbys: Standbys, tmp_path: Path):
    with standbys.turn(STEP, CODE):
        done = download(tmp_path, (ROOT / "data" / "pokemon.csv").as_uri())
    assert done.returncode == 0, done.stderr
    assert '"raw.csv"' in (tmp_path / "report").read_text()
    assert used(standbys)


def test_its_failure_is_the_steps(standbys: Standbys, tmp_path: Path):
    with standbys.turn(STEP, CODE):
        done = download(tmp_path, (tmp_path / "absent.csv").as_uri())
    assert done.returncode == 1
    assert "absent.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert used(standbys)


def test_wrong_arguments_are_told_by_whoever_parses_them(standbys: Standbys):
    with standbys.turn(STEP, CODE):
        done = command("--help-me")
    assert done.returncode == 2
    assert "--file_url" in done.stderr


def test_other_code_than_it_has_imported_is_run_anew(standbys: Standbys):
    with standbys.turn(STEP, CODE | {f"{STEP}/script.py": "edited since"}):
        assert settings.STANDBY not in os.environ
    assert not standbys._used


def test_one_that_was_killed_is_not_missed(standbys: Standbys, tmp_path: Path):
    standbys._waiting[STEP]._process.kill()
    standbys._waiting[STEP]._process.wait()
    with standbys.turn(STEP, CODE):
        done = download(tmp_path, (ROOT / "data" / "pokemon.csv").as_uri())
    assert done.returncode == 0, done.stderr


def test_it_ends_with_whoever_started_it(tmp_path: Path):
    start = (
        "import sys; from pipeline.standby import Standbys\n"
        f"made = Standbys('local'); made.prepare({STEP!r})\n"
        f"print(made._waiting[{STEP!r}]._process.pid, flush=True); sys.stdin.read()"
    )
    known = {settings.TRACKER: "trackio", settings.STATE_DIR: str(tmp_path / "state")}
    starter = subprocess.Popen(
        [sys.executable, "-c", start],
        cwd=ROOT,
        env=environment(tmp_path, TMPDIR=str(tmp_path), **known),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    waiting = psutil.Process(int(starter.stdout.readline()))
    starter.kill()
    starter.communicate()
    assert not psutil.wait_procs([waiting], timeout=60)[1]


def test_the_environment_of_another_conda_yml_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path))
    assert interpreter(STEP, "uv") is None
    record_interpreter(STEP, Path(sys.executable))
    assert interpreter(STEP, "uv") == sys.executable
    record = tmp_path / "environments" / f"{STEP}.json"
    record.write_text(record.read_text().replace('"conda_yml": "', '"conda_yml": "0'))
    assert interpreter(STEP, "uv") is None
