"""A damaged file of the state folder counts as absent, with a warning."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.core.files import read_record
from pipeline.core.tracing import dependencies
from pipeline.history.runs import History
from pipeline.orchestration import maintenance, summary
from pipeline.orchestration.execution import workers
from tests.support.paths import ROOT

DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(b"\xff\0[[{"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "folder": lambda path: [path.unlink(), path.mkdir()],
    "loop": lambda path: [path.unlink(), path.symlink_to(path.name)],
}


@pytest.fixture(params=DAMAGE)
def damage(request: pytest.FixtureRequest) -> Callable[[Path], object]:
    """Damages a file."""
    return DAMAGE[request.param]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    return tmp_path


def test_a_record(state: Path, damage: Callable, capsys: pytest.CaptureFixture):
    path = state / "one.json"
    assert read_record(path, "id") is None  # there is none
    assert capsys.readouterr().err == ""
    path.write_text('{"id": "a"}')
    assert read_record(path, "id") == {"id": "a"}
    assert read_record(path, "id", "more") is None
    damage(path)
    assert read_record(path, "id") is None
    assert capsys.readouterr().err.count(f"warning: {path} is damaged") == 2


def test_the_count_goes_on(state: Path, damage: Callable):
    """By the summaries of the runs that are there."""
    assert [summary.next_number(), summary.next_number()] == [1, 2]
    for number in (7, 3):
        folder = state / "runs" / str(number)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"number": number}))
    damage(state / "count")
    assert summary.next_number() == 8


def test_a_summary(state: Path, damage: Callable, capsys: pytest.CaptureFixture):
    path = state / "runs" / "one" / "summary.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"run_id": "one", "steps": {}, "project": "a"}')
    assert [*maintenance._recorded(state)] == [path.parent]
    damage(path)
    assert maintenance._recorded(state) == {}
    assert History().local == {}
    told = f"{path} is damaged" in capsys.readouterr().out
    assert told or path.is_symlink()  # nobody lists a loop


def test_an_interpreter(state: Path, damage: Callable, capsys: pytest.CaptureFixture):
    step, python = ROOT / "2-ETL", state / "python"
    python.touch()
    workers.record_interpreter(step, python)
    assert workers.interpreter(step, "uv") == str(python)
    damage(workers._record(step))
    assert workers.interpreter(step, "uv") is None
    told = capsys.readouterr().err
    cut = workers._record(step)
    assert "is damaged" in told or str(python).startswith(cut.read_text())
    if workers._record(step).is_file():
        workers.record_interpreter(step, python)
        assert workers.interpreter(step, "uv") == str(python)


def test_a_lock(state: Path, damage: Callable):
    lines = ["# Python 3.11", "pandas==2.0"]
    digest = dependencies.keep_lock(lines)
    assert dependencies.read_lock(digest) == lines
    damage(settings.lock_file(digest))
    assert dependencies.read_lock(digest) == []
    if not settings.lock_file(digest).is_dir():
        assert dependencies.keep_lock(lines) == digest
        assert dependencies.read_lock(digest) == lines
