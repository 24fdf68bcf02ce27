"""Damaged and missing bytes are noticed, named and made again; gc removes only what may go."""

import functools
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.results import Reference, StepResult
from pipeline.orchestration import run
from pipeline.orchestration.execution import processes
from pipeline.tracking import Tracker
from tests.support.clones import Clone
from tests.support.paths import POKEMON, ROOT
from tests.support.runs import SMALL, Checkout, Finished, environment

QUICK = (SMALL, "main.steps=[1,2,3]")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def copied(finished: tuple[Checkout, Finished], tmp_path: Path) -> tuple[Checkout, Finished]:
    """A place in which the pipeline has run, to be damaged."""
    checkout, first = finished
    return checkout.copy(tmp_path / "home"), first


def blob(checkout: Checkout, done: Finished, name: str) -> Path:
    """The file in Trackio's store that holds an artifact."""
    return checkout.state / "trackio" / next(iter(done.outputs()[name]["stored"]))


def test_damage_is_named_and_repaired(copied: tuple[Checkout, Finished]):
    checkout, first = copied
    assert checkout.tool("verify").status == 0
    flipped = blob(checkout, first, "clean_data.csv")
    content = bytearray(flipped.read_bytes())
    content[100] ^= 1
    flipped.write_bytes(content)
    blob(checkout, first, "train_data.csv").unlink()

    told = checkout.tool("verify")
    assert told.status == 1
    assert "clean_data.csv:v0 has been changed on disk" in told.out
    assert "train_data.csv:v0 is missing its file" in told.out

    repaired = checkout.run(*QUICK)
    assert repaired.states[:3] == ["cached", "ran", "ran"], repaired.out
    assert "clean_data.csv:v0 has been changed on disk" in repaired.out
    made = repaired.outputs()
    assert made == {name: output for name, output in first.outputs().items() if name in made}
    assert checkout.tool("verify").out.strip() == "everything is whole"


def test_a_version_that_is_another_one_now_is_not_handed_on(checkout: Checkout):
    """As when another checkout's gc has set its number free; the records of it are still there."""
    steps = ("main.steps=[1,2]", "etl.fill={type_2: none}"), ("main.steps=[1,2]", "etl.fill={}")
    shared = {"TRACKIO_DIR": str(checkout.home / "trackio")}
    first, _ = (checkout.run(*words, **shared) for words in steps)
    digest = first.outputs()["clean_data.csv"]["digest"]
    with sqlite3.connect(checkout.home / "trackio" / "pokemon.db") as store:
        place = "artifact_id = (select id from artifacts where name = 'clean_data.csv')"
        for old, new in ((0, 9), (1, 0), (9, 1)):
            store.execute(
                f"update artifact_versions set version = {new} where version = {old} and {place}"
            )
    store.close()
    shutil.rmtree(checkout.state / "finished")
    again = checkout.run(*steps[0], **shared)
    assert again.states[:2] == ["cached", "ran"], again.out
    assert "clean_data.csv:v0 is gone" in again.out
    made = again.outputs()["clean_data.csv"]
    assert (made["digest"], made["version"]) == (digest, "v1")


def test_data_that_is_not_what_was_handed_over_is_refused():
    used = {"name": "clean_data.csv", "version": "v1", "digest": "b" * 64}
    result = StepResult("3-Split_dataset", "ran", inputs=[used])
    run._check_inputs(result, {"input_artifact": Reference("clean_data.csv:v1", "b" * 64)})
    with pytest.raises(PipelineError, match=r"was to use clean_data.csv:v1 with digest aaaa"):
        run._check_inputs(result, {"input_artifact": Reference("clean_data.csv:v1", "a" * 64)})


def test_each_trackio_folder_is_a_store_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("TRACKIO_SERVER_URL", raising=False)
    stores = set()
    for number, folder in enumerate(("", tmp_path / "a", tmp_path / "b", tmp_path / "0/trackio")):
        monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / str(number)))
        monkeypatch.setenv("TRACKIO_DIR", str(folder))
        stores.add(Tracker("trackio", "pokemon").store)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / "moved"))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "moved/trackio"))
    assert len(stores) == 4
    assert Tracker("trackio", "pokemon").store in stores  # wherever the state folder is


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


def test_a_step_alone_refuses_a_damaged_input(copied: tuple[Checkout, Finished]):
    checkout, first = copied
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


def test_gc_shows_then_removes_and_keeps_what_has_an_alias(copied: tuple[Checkout, Finished]):
    checkout, first = copied
    checkout.run(*QUICK, "split.test_size=0.3")
    last = checkout.run(*QUICK, "split.test_size=0.4")
    tagged = """
import trackio
run = trackio.init(project="pokemon")
artifact = trackio.Artifact("test_data.csv", type="split_data")
for path, name in zip({paths!r}, ("test_data.csv", "schema.json")):
    artifact.add_file(path, name=name)
trackio.log_artifact(artifact, aliases=["mine"])
trackio.finish()
""".format(paths=[str(checkout.state / "trackio" / place)
                  for place in first.outputs()["test_data.csv"]["stored"]])  # fmt: skip
    subprocess.run(
        [sys.executable, "-c", tagged],
        env=environment(checkout.home, TRACKIO_DIR=str(checkout.state / "trackio")),
        check=True,
        capture_output=True,
    )
    stray = blob(checkout, first, "train_data.csv").parents[1] / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("left by a run that was killed")
    assert checkout.tool("gc").out.strip() == "nothing to remove"  # that was just now
    os.utime(stray, (0, 0))
    shown = checkout.tool("gc", "--keep", "1").out
    assert "train_data.csv:v0" in shown
    assert "train_data.csv:v1" in shown
    assert "test_data.csv:v1" in shown
    assert "test_data.csv:v0" not in shown
    assert str(stray) in shown
    assert "nothing has been removed" in shown
    assert blob(checkout, first, "train_data.csv").exists()

    assert checkout.tool("gc", "--keep", "1", "--yes").status == 0
    assert not blob(checkout, first, "train_data.csv").exists()
    assert not stray.exists()
    assert blob(checkout, first, "test_data.csv").exists()
    assert blob(checkout, last, "train_data.csv").exists()
    assert len(list(checkout.state.glob("runs/*/summary.json"))) == 1
    assert checkout.tool("verify").status == 0
    again = checkout.run(*QUICK, "split.test_size=0.4")
    assert again.states == ["cached", "cached", "cached", "skipped"]
    older = checkout.run(*QUICK)
    assert older.states[:3] == ["cached", "cached", "ran"]


def test_an_artifact_that_no_finished_step_names_is_verified_too(
    copied: tuple[Checkout, Finished],
):
    checkout, first = copied
    shutil.rmtree(checkout.state / "finished")
    lost = blob(checkout, first, "train_data.csv")
    lost.unlink()
    told = checkout.tool("verify")
    assert told.status == 1
    assert told.out.count("train_data.csv:v0") == 1
    assert f"train_data.csv:v0 is missing its file {lost}" in told.out


def test_gc_goes_by_the_order_in_which_runs_ended(copied: tuple[Checkout, Finished]):
    """A clock that was wrong for a run does not make it the last one."""
    checkout, first = copied
    (checkout.state / "runs" / first.folder.name).rename(
        checkout.state / "runs" / "20990101-000000-abcdef"
    )
    last = checkout.run("main.steps=[1]")
    shown = checkout.tool("gc", "--keep", "1").out
    assert "20990101-000000-abcdef" in shown
    assert last.folder.name not in shown


def test_gc_tidies_up_after_the_dead_and_waits_for_the_living(
    copied: tuple[Checkout, Finished], monkeypatch: pytest.MonkeyPatch
):
    checkout, _ = copied
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(checkout.state))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow may have set it here
    marker = processes.Marker("20200101-000000-abcdef")
    marker.note()
    told = checkout.tool("gc")
    assert told.status == 1
    assert "a run is under way: 20200101-000000-abcdef" in told.err
    marker.release()  # as when its process is killed
    told = checkout.tool("gc")
    assert (told.status, told.out.strip()) == (0, "nothing to remove")
    assert not list(checkout.state.glob("running/*"))


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
