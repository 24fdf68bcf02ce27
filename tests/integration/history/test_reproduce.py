"""A run is run again from what was recorded of it, and compared; or one goes on from it."""

import contextlib
import json
import math
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.history.reproduction import equality, recreate
from tests.support.clones import Clone, git, refused, seen
from tests.support.paths import POKEMON, ROOT
from tests.support.runs import SMALL, Finished, environment

DATA = "data.file_url"


class Recorded(Clone):
    """A clone with a run of all steps, made by code that was never committed."""

    run_: Finished

    @property
    def id(self) -> str:
        return self.run_.summary["run_id"]

    @property
    def steps(self) -> list[dict]:
        """What the summary says of the steps that were run."""
        return [s for s in self.run_.summary["steps"].values() if s["status"] == "ran"]

    @property
    def address(self) -> Path:
        """Where the data is fetched from."""
        return self.home / "data.csv"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The run; since then its code, its data and the branch have changed."""
    place = Recorded.make(tmp_path_factory.mktemp("recorded"))
    shutil.copyfile(POKEMON, place.address)
    place.edit("3-Split_dataset/script.py", "def go(", "FIRST = True\n\n\ndef go(")
    (place.root / "notes.txt").write_text("untracked\n")
    before = seen(place.root)
    place.run_ = place.run(SMALL, f"{DATA}={place.address.as_uri()}", "main.steps=all")
    assert place.run_.status == 0, place.run_.err
    assert seen(place.root) == before

    lines = POKEMON.read_text(encoding="utf-8").splitlines(keepends=True)
    place.address.write_text("".join(lines[:300]), encoding="utf-8")
    place.edit("3-Split_dataset/script.py", "FIRST = True", "raise SystemExit('other code')")
    git(place.root, "checkout", "-q", "-b", "elsewhere")
    git(place.root, "add", "main.py", "notes.txt")
    return place


def tags(place: Clone, run: str) -> dict[str, str]:
    """The tags of an MLflow run."""
    return mlflow.MlflowClient(f"sqlite:///{place.state}/mlflow.db").get_run(run).data.tags


def tracker_config(place: Clone, run: str) -> dict:
    """What Trackio shows of a run's configuration."""
    with contextlib.closing(sqlite3.connect(place.state / "trackio" / "pokemon.db")) as database:
        query = "select config from configs where run_id = ?"
        return json.loads(database.execute(query, (run,)).fetchone()[0])


def test_the_code_is_tagged_in_mlflow_and_in_the_tracker(recorded: Recorded):
    summary = recorded.run_.summary
    commit = git(recorded.root, "rev-parse", f"refs/pipeline/{recorded.id}")
    head = git(recorded.root, "rev-parse", "main")
    changes = "2 files changed, 4 insertions(+)"
    told = tags(recorded, summary["mlflow_run"])
    assert told["mlflow.source.git.commit"] == head
    assert (told["git.snapshot"], told["git.dirty"], told["git.diff"]) == (commit, "true", changes)
    assert summary["snapshot"]["commit"] == commit
    assert summary["snapshot"]["parent"] == head
    for step in recorded.steps[:4]:  # Trackio keeps no run that has logged no number: the report's
        config = tracker_config(recorded, step["tracker_run"])
        assert (config["git_commit"], config["git_snapshot"]) == (head, commit)
        assert (config["git_dirty"], config["git_diff"]) == ("true", changes)
    assert git(recorded.root, "show", f"{commit}:notes.txt") == "untracked"
    assert "FIRST = True" in git(recorded.root, "show", f"{commit}:3-Split_dataset/script.py")


def test_the_packages_of_each_step_are_recorded(recorded: Recorded, tmp_path: Path):
    for step in recorded.steps:
        place = recorded.state / "environments" / f"{step['environment']}.txt"
        lock = place.read_text().splitlines()
        assert lock[0].startswith(f"# Python {platform.python_version()},")
        assert f"mlflow=={mlflow.__version__}" in lock
        client = mlflow.MlflowClient(f"sqlite:///{recorded.state}/mlflow.db")
        kept = client.download_artifacts(step["mlflow_run"], "environment.lock.txt", str(tmp_path))
        assert Path(kept).read_text().splitlines() == lock


def test_a_run_is_reproduced_whatever_has_changed_since(recorded: Recorded):
    before, runs = seen(recorded.root), seen(recorded.state / "runs")
    trackio = seen(recorded.state / "trackio" / "artifacts")
    done = recorded.tool("reproduce", recorded.id)
    assert done.status == 0, done.out + done.err
    assert "5-Report\n  not compared: a report describes its own run" in done.out
    for step in recorded.steps[:4]:
        told = done.out.partition(f"\n{step['step']}\n")[2].partition("\n\n")[0]
        outcomes = dict(line.split(maxsplit=1) for line in told.splitlines())
        names = {output["name"] for output in step["outputs"]} | step["metrics"].keys()
        assert names | {"environment"} <= outcomes.keys()
        assert all(outcome.startswith("identical: ") for outcome in outcomes.values())
    assert "predictions        identical: 160 rows" in done.out
    assert f"run {recorded.id} was reproduced: all 23 items are the same" in done.out
    assert seen(recorded.root) == before
    assert git(recorded.root, "for-each-ref", "refs/pipeline").count("\n") == 0  # still one
    assert seen(recorded.state / "runs") == runs
    assert seen(recorded.state / "trackio" / "artifacts") == trackio
    assert not list((recorded.state / "reproductions").iterdir())


def newest(place: Clone) -> dict:
    folder = max((place.state / "runs").iterdir())
    return json.loads((folder / "summary.json").read_text())


def test_interrupted(recorded: Recorded):
    """Nothing stays of the worktree, and no process."""
    before = seen(recorded.root)
    command = [sys.executable, "-u", "-m", "pipeline", "--state-dir", str(recorded.state)]
    with subprocess.Popen(
        [*command, "reproduce", recorded.id],
        cwd=recorded.root,
        env=environment(recorded.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("1-Download_data: running"):
                process.send_signal(signal.SIGINT)
        status = process.wait()
    assert status == 130
    assert seen(recorded.root) == before
    shutil.rmtree(recorded.state / "reproductions")


def test_going_on_with_another_setting(recorded: Recorded):
    before = seen(recorded.root)
    change = ("split.test_size=0.3", "main.steps=[1,2,3]")
    done = recorded.tool("reproduce", recorded.id, "--set", *change)
    assert done.status == 0, done.out + done.err
    assert seen(recorded.root) == before
    run, old = newest(recorded), recorded.run_.summary
    assert run["run_id"] in done.out
    assert run["based_on"] == recorded.id
    assert run["config"]["split"]["test_size"] == 0.3
    rows = run["steps"]["3-Split_dataset"]["metrics"]
    assert (rows["train_rows"], rows["test_rows"]) == (560, 240)  # 800 in all: the old data
    raw = run["steps"]["1-Download_data"]["outputs"][0]
    assert raw["digest"] == old["steps"]["1-Download_data"]["outputs"][0]["digest"]
    assert run["steps"]["2-ETL"]["status"] == "cached"
    assert run["snapshot"]["parent"] == old["snapshot"]["commit"]
    assert tags(recorded, run["mlflow_run"])["pipeline.based_on"] == recorded.id
    config = tracker_config(recorded, run["steps"]["3-Split_dataset"]["tracker_run"])
    assert config["based_on"] == recorded.id


def test_going_on_with_the_code_and_the_data_of_today(recorded: Recorded):
    """It fails, because that code does; what failed can't be reproduced, only gone on from."""
    words = ("--code", "current", "--data", "latest", "--set", "model=logistic_regression")
    done = recorded.tool("reproduce", recorded.id, *words, "main.steps=[1,2,3]")
    assert done.status == 1
    assert "3-Split_dataset failed" in done.err
    assert "other code" in done.err
    run = newest(recorded)
    assert run["based_on"] == recorded.id
    assert run["snapshot"]["parent"] == git(recorded.root, "rev-parse", "HEAD")
    assert run["steps"]["2-ETL"]["metrics"]["rows_before"] == 299
    assert run["config"]["model"]["estimator"].endswith("LogisticRegression")
    assert "n_estimators" not in run["config"]["model"]["params"]
    assert "did not finish (failed)" in refused(recorded, "reproduce", run["run_id"])


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(NUMBERS, NUMBERS)
def test_numbers_hold_within_the_tolerance_and_no_further(a: float, b: float):
    item = equality.number("step", "metric", a, b, 1e-6)
    assert item.holds == math.isclose(a, b, rel_tol=1e-6)
    assert (item.outcome == equality.IDENTICAL) == (a == b)


def test_tables_cell_by_cell():
    old = "name,x\na,1.0\nb,2.0\n"
    assert equality.table("s", "t", old, old, 0).outcome == equality.IDENTICAL
    near = old.replace("2.0", "2.0000000001")
    assert equality.table("s", "t", old, near, 1e-6).outcome == equality.EQUAL
    far = equality.table("s", "t", old, near, 1e-12)
    assert (far.outcome, far.detail[:15]) == (equality.DIFFERENT, "1 of 2 rows; fi")
    assert far.detail.endswith("first in row 2: x 2.0 -> 2.0000000001")
    assert equality.table("s", "t", old, "name,x\na,1.0\n", 1).detail == "2 rows -> 1"
    assert (
        equality.table("s", "t", old, old.replace("x", "y"), 1).detail
        == "columns name, x -> name, y"
    )
    assert "name b -> c" in equality.table("s", "t", old, old.replace("b", "c"), 1).detail


def test_packages():
    old = ["# Python 3.11.2, Linux x86_64", "a==1.0", "b==2"]
    assert equality.lock("s", old, old).detail == "2 packages"
    changes = equality.lock_changes(old, ["# Python 3.11.9, Linux x86_64", "a==1.1", "c==3"])
    assert changes == [
        "Python 3.11.2, Linux x86_64 -> 3.11.9, Linux x86_64",
        "a 1.0 -> 1.1",
        "b 2 -> (none)",
        "c (none) -> 3",
    ]


def test_an_environment_is_pinned_to_every_package(tmp_path: Path):
    spec = "name: etl\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n      - pandas==3.1.1\n"
    (tmp_path / "conda.yml").write_text(spec)
    recreate.pin_environment(
        tmp_path, ["# Python 3.11.2, Linux x86_64", "numpy==2.4.1", "pandas==3.1.0"]
    )
    told = yaml.safe_load((tmp_path / "conda.yml").read_text())
    assert told["dependencies"] == [
        "python=3.11",
        "pip",
        {"pip": ["numpy==2.4.1", "pandas==3.1.0"]},
    ]


def test_a_configuration_is_written_as_it_was(tmp_path: Path):
    """Text that looks like an interpolation, and a model that is not merged with the old one."""
    code = ROOT
    known = recreate.adapt_config({"data": {"sep": "${x}", "gone": 1}}, code)
    assert "gone" not in known["data"]
    assert known["split"]["test_size"] == 0.2
    words = recreate.write_config(known, code, tmp_path, tmp_path, ["model=logistic_regression"])
    assert words[-1] == recreate.NAME
    text = json.loads((tmp_path / f"{recreate.NAME}.yaml").read_text())
    assert text["etl"]["sep"] == "\\${x}"  # a key of an earlier version, under its new name
    assert text["defaults"] == ["schema", "_self_", {"model": "logistic_regression"}]
    assert text["model"]["params"] == {}
    assert os.sep not in text["main"]["project_name"]
