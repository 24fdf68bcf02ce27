"""Damaged and missing bytes are noticed, named and made again; gc removes only what may go."""

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.runs import POKEMON, ROOT, SMALL, Checkout, Finished, environment

QUICK = (SMALL, "main.steps=[1,2,3]")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def blob(checkout: Checkout, done: Finished, name: str) -> Path:
    """The file in Trackio's store that holds an artifact."""
    return checkout.state / "trackio" / next(iter(done.outputs()[name]["stored"]))


def command(checkout: Checkout, *arguments: str) -> subprocess.CompletedProcess:
    """``python -m pipeline``."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "--state-dir", str(checkout.state), *arguments],
        cwd=ROOT,
        env=environment(checkout.home),
        capture_output=True,
        text=True,
        check=False,
    )


def test_damage_is_named_and_repaired(checkout: Checkout):
    first = checkout.run(*QUICK)
    assert command(checkout, "verify").returncode == 0
    flipped = blob(checkout, first, "clean_data.csv")
    content = bytearray(flipped.read_bytes())
    content[100] ^= 1
    flipped.write_bytes(content)
    blob(checkout, first, "train_data.csv").unlink()

    told = command(checkout, "verify")
    assert told.returncode == 1
    assert "clean_data.csv:v0 has been changed on disk" in told.stdout
    assert "train_data.csv:v0 is missing its file" in told.stdout

    repaired = checkout.run(*QUICK)
    assert repaired.states[:3] == ["cached", "ran", "ran"], repaired.out
    assert "clean_data.csv:v0 has been changed on disk" in repaired.out
    assert repaired.outputs() == first.outputs()
    assert command(checkout, "verify").stdout.strip() == "everything is whole"


def test_a_step_alone_refuses_a_damaged_input(checkout: Checkout):
    first = checkout.run(*QUICK)
    flipped = blob(checkout, first, "clean_data.csv")
    content = bytearray(flipped.read_bytes())
    content[100] ^= 1
    flipped.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "script.py", "--input_artifact=clean_data.csv:latest",
         "--train_artifact_name=a.csv", "--test_artifact_name=b.csv",
         "--artifact_type=split_data", "--artifact_description=x", "--test_size=0.2"],
        cwd=ROOT / "3-Split_dataset",
        env=environment(checkout.home, PIPELINE_STATE_DIR=str(checkout.state)),
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "clean_data.csv:latest' is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_gc_shows_then_removes_and_keeps_what_has_an_alias(checkout: Checkout):
    first = checkout.run(*QUICK)
    checkout.run(*QUICK, "split.test_size=0.3")
    last = checkout.run(*QUICK, "split.test_size=0.4")
    tagged = """
import trackio
run = trackio.init(project="pokemon")
artifact = trackio.Artifact("test_data.csv", type="split_data")
artifact.add_file({path!r}, name="test_data.csv")
trackio.log_artifact(artifact, aliases=["mine"])
trackio.finish()
""".format(path=str(blob(checkout, first, "test_data.csv")))
    subprocess.run(
        [sys.executable, "-c", tagged],
        env=environment(checkout.home, TRACKIO_DIR=str(checkout.state / "trackio")),
        check=True,
        capture_output=True,
    )
    assert command(checkout, "gc").stdout.strip() == "nothing to remove"
    shown = command(checkout, "gc", "--keep", "1").stdout
    assert "train_data.csv:v0" in shown
    assert "train_data.csv:v1" in shown
    assert "test_data.csv:v1" in shown
    assert "test_data.csv:v0" not in shown
    assert "nothing has been removed" in shown
    assert blob(checkout, first, "train_data.csv").exists()

    assert command(checkout, "gc", "--keep", "1", "--yes").returncode == 0
    assert not blob(checkout, first, "train_data.csv").exists()
    assert blob(checkout, first, "test_data.csv").exists()
    assert blob(checkout, last, "train_data.csv").exists()
    assert len(list(checkout.state.glob("runs/*/summary.json"))) == 1
    assert command(checkout, "verify").returncode == 0
    again = checkout.run(*QUICK, "split.test_size=0.4")
    assert again.states == ["cached", "cached", "cached", "skipped"]
    older = checkout.run(*QUICK)
    assert older.states[:3] == ["cached", "cached", "ran"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """A web server for one folder; it says when a file was modified, and counts."""
    served: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            served.append(f"{int(code)}")

    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "data.csv").write_bytes(POKEMON.read_bytes())
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    server.served, server.file = served, folder / "data.csv"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_address_is_asked_whether_its_content_changed(
    checkout: Checkout, server: ThreadingHTTPServer
):
    url = f"data.file_url=http://127.0.0.1:{server.server_port}/data.csv"
    quick = (url, "main.steps=[1,2]")
    assert checkout.run(*quick).states[:2] == ["ran", "ran"]
    assert checkout.run(*quick).states[:2] == ["cached", "cached"]
    assert server.served == ["200", "304"]

    later = server.file.stat().st_mtime + 100
    os.utime(server.file, (later, later))  # touched: fetched again, and found to be the same
    assert checkout.run(*quick).states[:2] == ["ran", "cached"]

    rows = server.file.read_text(encoding="utf-8").splitlines(keepends=True)
    server.file.write_text("".join(rows[:-1]), encoding="utf-8")
    os.utime(server.file, (later + 100, later + 100))
    changed = checkout.run(*quick)
    assert changed.states[:2] == ["ran", "ran"]
    assert changed.outputs()["pokemon.csv"]["version"] == "v1"

    digest = changed.outputs()["pokemon.csv"]["digest"]
    pinned = (*quick, f"data.sha256={digest}")
    assert checkout.run(*pinned).states[:2] == ["ran", "cached"]
    asked = len(server.served)
    assert checkout.run(*pinned).states[:2] == ["cached", "cached"]
    assert len(server.served) == asked

    server.shutdown()
    server.server_close()
    offline = checkout.run(*quick)
    assert offline.states[:2] == ["cached", "cached"]
    assert "can't be reached; using what was fetched before" in offline.out
