"""Damaged and missing bytes are noticed, named and made again; gc removes only what may go."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.results import Reference, StepResult
from pipeline.orchestration import run
from pipeline.orchestration.execution import processes
from pipeline.tracking import Tracker
from tests.support.paths import ROOT
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
    assert checkout.tool("verify").out.strip() == "no problems found"


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
