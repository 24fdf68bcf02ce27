"""What changed from run to run, and a run laid out again: log, show, diff, checkout."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.core import settings
from pipeline.core.errors import READER_GONE
from pipeline.core.files import content_digest
from pipeline.history import log as history_log
from tests.support.clones import Clone, git, seen
from tests.support.paths import POKEMON, ROOT


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Two runs with another code and another setting, and a third that hands on the second's."""
    place = Clone.make(tmp_path_factory.mktemp("place"))
    assert place.run("main.steps=[1,2]").status == 0
    place.edit("2-ETL/script.py", "def go(", "LIMIT = 3\n\n\ndef go(")
    (place.root / "new notes.txt").write_text("untracked\n")
    data = place.home / "fewer.csv"
    data.write_text("".join(POKEMON.read_text().splitlines(keepends=True)[:300]))
    changed = (f"data.file_url={data.as_uri()}", "etl.required=[]", "main.experiment_name=prod")
    for _ in range(2):
        done = place.run("main.steps=[1,2]", *changed)
        assert done.status == 0, done.err
    return place


@pytest.fixture
def run(place: Clone, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run a command in this process: its output."""
    monkeypatch.setenv(settings.STATE_DIR, str(place.state))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it, and it must not stay
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(history_log, "ROOT", place.root)

    def call(*words: str) -> str:
        before = seen(place.root)
        status = main(["--state-dir", str(place.state), *words])
        assert seen(place.root) == before
        told = capsys.readouterr()
        assert status == 0, told.err
        return told.out

    return call


def ids(place: Clone) -> list[str]:
    return sorted(path.name for path in (place.state / "runs").iterdir())


def test_log(place: Clone, run):
    first, second, third = ids(place)
    told = run("log").split("\n\n")
    assert [text.splitlines()[0] for text in told if text] == [
        f"run {third}", f"run {second}", f"run {first}",
    ]  # fmt: skip
    lines = [re.sub(r"\s+", " ", line).strip() for line in told[1].splitlines()]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC .* prod", lines[1])
    assert "code 2-ETL/script.py, new notes.txt" in lines
    assert "data clean_data.csv v0 -> v1" in lines
    assert any(line.startswith("parameter etl.required null -> []") for line in lines)
    assert any(re.search(r"rows_after \d+ \(-\d+\)", line) for line in lines)
    assert "code" not in told[0]  # it handed on what the second made
    assert "(" not in told[2].partition("metrics")[2]  # the first has none to compare with
    assert run("log", "--experiment", "prod", "-n", "1").count("run 2") == 1


def test_nobody_reads_on(place: Clone):
    """As with ``log | head``: it ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    words = ["-m", "pipeline", "--state-dir", str(place.state), "log"]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (READER_GONE, b"")


def test_show(place: Clone, run):
    _, second, third = ids(place)
    told = run("show", second)
    head = git(place.root, "rev-parse", "HEAD")[:12]
    assert f"refs/pipeline/{second}, based on {head}" in told
    assert "2 files changed, 4 insertions(+)" in told
    summary = json.loads((place.state / "runs" / second / "summary.json").read_text())
    for step in summary["steps"].values():
        for found in step["outputs"]:
            assert f"-> {found['name']}:{found['version']} {found['digest'][:12]}" in told
    assert "etl.required []" in told
    assert f"2-ETL cached, made by {second}" in run("show", third)


def test_diff(place: Clone, run):
    first, second, third = ids(place)
    told = run("diff", first, second)
    assert "etl.required" in told
    assert "clean_data.csv" in told
    assert "+LIMIT = 3" in told
    assert "new notes.txt" in told
    assert run("diff", second, third).rstrip().endswith("the same")
    git(place.root, "update-ref", "-d", f"refs/pipeline/{first}")
    assert "git fetch origin 'refs/pipeline/*:refs/pipeline/*'" in run("diff", first, second)


def test_checkout(place: Clone, tmp_path: Path):
    before, last = seen(place.root), ids(place)[-1]
    into = tmp_path / "new" / "folder"
    done = place.tool("checkout", last, "--into", str(into))
    assert done.status == 0, done.err
    assert seen(place.root) == before
    summary = json.loads((into / "summary.json").read_text())
    assert summary["run_id"] == last
    for step in summary["steps"].values():
        for found in step["outputs"]:
            assert content_digest(into / "data" / found["name"]) == found["digest"]
        if step["outputs"]:
            assert "pandas==" in (into / "environment" / f"{step['step']}.txt").read_text()
    assert "LIMIT = 3" in (into / "code" / "2-ETL" / "script.py").read_text()
    assert (into / "code" / "new notes.txt").exists()
    assert not (into / "code" / ".git").exists()
    assert "required: []" in (into / "config.yaml").read_text()
    assert not [path for path in into.parent.iterdir() if path != into]


def test_a_checkout_is_whole_or_not_there(place: Clone, tmp_path: Path):
    blobs = place.state / "trackio" / "artifacts"
    blobs.rename(place.home / "away")
    try:
        done = place.tool("checkout", "last", "--into", str(tmp_path / "out"))
    finally:
        (place.home / "away").rename(blobs)
    assert done.status == 1
    assert "is missing a file" in done.err
    assert not list(tmp_path.iterdir())
