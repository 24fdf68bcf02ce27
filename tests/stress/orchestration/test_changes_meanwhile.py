"""Code, files and addresses that change while a run uses them."""

import functools
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.clones import Clone
from tests.support.paths import POKEMON
from tests.support.runs import Checkout

GO = "def go(args: argparse.Namespace, run: steps.Run) -> None:\n"


def test_a_step_that_is_edited_while_it_runs_counts_as_it_ran(tmp_path: Path):
    clone = Clone.make(tmp_path)
    edit = "    import os; os.system('echo \"x = 1\" >> script.py')\n"
    clone.edit("2-ETL/script.py", GO, GO + edit)
    text = (clone.root / "2-ETL" / "script.py").read_text()
    quick = "main.steps=[1,2]"
    assert clone.run(quick).states[:2] == ["ran", "ran"]
    assert clone.run(quick).states[:2] == ["cached", "ran"]
    (clone.root / "2-ETL" / "script.py").write_text(text)
    assert clone.run(quick).states[:2] == ["cached", "cached"]


def test_a_file_that_changes_while_a_step_uses_it_is_told(tmp_path: Path):
    clone = Clone.make(tmp_path)
    used = "    open('rules.txt').read(); import os; os.system('echo more >> rules.txt')\n"
    clone.edit("2-ETL/script.py", GO, GO + used)
    (clone.root / "2-ETL" / "rules.txt").write_text("1\n")
    for _ in range(2):
        done = clone.run("main.steps=[1,2]")
        assert done.states[1] == "ran", done.err
        told = "2-ETL/rules.txt changed while 2-ETL ran; no other run will reuse it"
        assert told in done.out


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


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
