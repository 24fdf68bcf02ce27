"""A run is run again from what was recorded of it, and compared; or one goes on from it."""

import contextlib
import json
import math
import os
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

from pipeline.__main__ import main
from pipeline.core import dependencies, settings
from pipeline.core.errors import PipelineError
from pipeline.history import equality, recreate, reproduce
from pipeline.history.runs import History
from tests.support.clones import Clone, git, seen
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
        assert lock[0].startswith("# Python 3.11.")
        assert f"mlflow=={mlflow.__version__}" in lock
        client = mlflow.MlflowClient(f"sqlite:///{recorded.state}/mlflow.db")
        kept = client.download_artifacts(step["mlflow_run"], "environment.lock.txt", str(tmp_path))
        assert Path(kept).read_text().splitlines() == lock


def test_a_run_is_reproduced_whatever_has_changed_since(recorded: Recorded):
    before, runs = seen(recorded.root), seen(recorded.state / "runs")
    trackio = seen(recorded.state / "trackio" / "artifacts")
    done = recorded.tool("reproduce", recorded.id)
    assert done.status == 0, done.out + done.err
    assert "5-Report\n  not made again: a report tells of its own run" in done.out
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


def refused(place: Clone, *words: str, **env: str) -> str:
    """A command that fails in a few lines, and changes nothing."""
    before, state = seen(place.root), ids(place)
    done = place.tool(*words, **env)
    assert done.status == 1, done.out
    assert "Traceback" not in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) <= 20
    assert seen(place.root) == before
    assert ids(place) == state
    return done.err


def ids(place: Clone) -> list[str]:
    """The runs, the oldest first."""
    return sorted(path.name for path in (place.state / "runs").iterdir())


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Three runs: the download; its cleaning, which differs each time; and one of nothing new."""
    place = Clone.make(tmp_path_factory.mktemp("partial"))
    assert place.run("main.steps=[1]").status == 0
    place.edit(
        "2-ETL/script.py",
        "def go(args: argparse.Namespace, run: steps.Run) -> None:\n",
        "def go(args: argparse.Namespace, run: steps.Run) -> None:\n"
        "    run.log({'chance': __import__('random').random()})\n",
    )
    (place.state / "finished").rename(place.home / "old finished")
    assert place.run("main.steps=[2]").status == 0
    return place


def test_what_differs_is_said_and_kept(partial: Clone):
    """The run of one step, on what was the latest data then."""
    run = ids(partial)[1]
    done = partial.tool("reproduce", run)
    assert done.status == 1, done.out + done.err
    told = dict(line.split(maxsplit=1) for line in done.out.splitlines() if line[:2] == "  ")
    assert "chance" in told, done.out + done.err
    assert told["chance"].startswith("different: 0."), done.out + done.err
    assert told["clean_data.csv"].startswith("identical: ")
    assert f"run {run} was not reproduced: 1 of 6 items differ" in done.out
    kept = Path(done.out.splitlines()[-1].partition(": ")[2])
    assert list(kept.glob("runs/*/2-ETL.log"))


def test_a_run_of_which_everything_was_handed_on(partial: Clone, monkeypatch, capsys):
    handed_on = partial.run("main.steps=[2]")
    assert handed_on.states[1] == "cached"
    assert handed_on.summary["snapshot"] is None
    monkeypatch.setenv(settings.STATE_DIR, str(partial.state))
    monkeypatch.setattr(recreate, "ROOT", partial.root)
    run = History().find(handed_on.summary["run_id"])
    maker = run.steps["2-ETL"].pipeline_run
    with recreate.code(run) as code:
        assert "chance" in (code / "2-ETL" / "script.py").read_text()
    assert f"of run {maker}, which made its steps" in capsys.readouterr().out
    assert not code.exists()

    # As if another run had made the step since, and left its code under this one's name
    place = partial.state / "finished" / "2-ETL"
    (record,) = place.glob(f"*/{run.steps['2-ETL'].fingerprint}.json")
    told = json.loads(record.read_text())
    told["evidence"]["proof"]["code"]["2-ETL/script.py"] = {"bytes": "0" * 64, "code": "0" * 64}
    record.write_text(json.dumps(told))
    with pytest.raises(PipelineError, match=r"no snapshot has all of it: 2-ETL/script.py"):
        recreate.code(run).__enter__()


def test_a_version_that_is_gone_from_the_index(partial: Clone, capsys):
    run = ids(partial)[1]
    record = partial.state / "runs" / run / "summary.json"
    text = record.read_text()
    summary = json.loads(text)
    places = partial.state / "environments"
    lock = places / f"{summary['steps']['2-ETL']['environment']}.txt"
    gone = [lock.read_text().splitlines()[0], "pandas==3.1.1", "tqdm==0.0.99"]
    summary["steps"]["2-ETL"]["environment"] = digest = dependencies.lock_digest(gone)
    (places / f"{digest}.txt").write_text("\n".join([*gone, ""]))
    record.write_text(json.dumps(summary))
    try:
        told = refused(partial, "reproduce", run, "--env-manager", "uv")
    finally:
        record.write_text(text)
    assert "the environment of 2-ETL could not be built" in told
    assert "tqdm==0.0.99" in told

    reproduce._prepare(partial.root, "local", {"2-ETL": gone})  # this one, which is another
    told = capsys.readouterr().out
    assert told.startswith("warning: this environment is not the recorded one: ")
    assert "--env-manager uv builds the recorded one" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["reproduce", "20200101-000000-abcdef"], "there is no run '20200101-000000-abcdef'"),
        (["reproduce", "RUN", "--set", "split.test_size"], "is not KEY=VALUE"),
        (["reproduce", "RUN", "--set", "data=iris"], "python main.py data=iris"),
        (["reproduce", "RUN", "--env-manager", "uvv"], "(did you mean 'uv'?)"),
        (["checkout", "RUN", "--into", "."], "it is not empty"),
    ],
)
def test_mistakes(partial: Clone, words: list[str], told: str, capsys, monkeypatch):
    monkeypatch.setenv(settings.STATE_DIR, str(partial.state))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it, and it must not stay
    before = seen(partial.root)
    words = [ids(partial)[1] if word == "RUN" else word for word in words]
    assert main(["--state-dir", str(partial.state), *words]) == 1
    assert told in capsys.readouterr().err
    assert seen(partial.root) == before


def test_a_run_of_a_colleague(partial: Clone, tmp_path: Path):
    """On the same stores; its code comes by way of git, or not at all."""
    run = ids(partial)[0]
    git(tmp_path, "clone", "-q", str(partial.root), "theirs")
    theirs = Clone(tmp_path / "home", root=tmp_path / "theirs")
    (theirs.state / "runs").mkdir(parents=True)
    store = f"sqlite:///{partial.state}/mlflow.db"
    shared = {"MLFLOW_TRACKING_URI": store, "TRACKIO_DIR": str(partial.state / "trackio")}
    told = refused(theirs, "reproduce", run, **shared)
    fetch = "git fetch origin 'refs/pipeline/*:refs/pipeline/*'"
    assert fetch in told
    git(theirs.root, *fetch.replace("'", "").split()[1:])
    done = theirs.tool("reproduce", run, **shared)
    assert done.status == 0, done.out + done.err
    assert f"run {run} was reproduced: all 3 items are the same" in done.out


def test_large_files_are_refused_before_anything_runs(partial: Clone):
    large = partial.root / "dump.bin"
    large.write_bytes(bytes(1_500_000))
    before, refs = seen(partial.root), git(partial.root, "for-each-ref")
    run = partial.run("main.steps=[1]", "main.force=true", "provenance.max_file_mb=1")
    assert run.status == 1
    assert "1.5 MB  dump.bin" in run.err
    assert not list(run.folder.glob("1-*"))
    assert seen(partial.root) == before
    assert git(partial.root, "for-each-ref") == refs
    large.unlink()


def test_outside_a_repository_one_line_says_so(partial: Clone):
    (partial.root / ".git").rename(partial.home / "git")
    try:
        run = partial.run("main.steps=[1]", "main.force=true")
    finally:
        (partial.home / "git").rename(partial.root / ".git")
    assert run.status == 0, run.err
    told = [line for line in run.out.splitlines() if line.startswith("warning: ")]
    assert len(told) == 1
    assert told[0].startswith("warning: this run's code is not kept in git: not a git repository")


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
    assert (far.outcome, far.how[:15]) == (equality.DIFFERENT, "1 of 2 rows; fi")
    assert far.how.endswith("first in row 2: x 2.0 -> 2.0000000001")
    assert equality.table("s", "t", old, "name,x\na,1.0\n", 1).how == "2 rows -> 1"
    assert (
        equality.table("s", "t", old, old.replace("x", "y"), 1).how == "columns name, x -> name, y"
    )
    assert "name b -> c" in equality.table("s", "t", old, old.replace("b", "c"), 1).how


def test_packages():
    old = ["# Python 3.11.2, Linux x86_64", "a==1.0", "b==2"]
    assert equality.lock("s", old, old).how == "2 packages"
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
    known = recreate.adapted({"data": {"sep": "${x}", "gone": 1}}, code)
    assert "gone" not in known["data"]
    assert known["split"]["test_size"] == 0.2
    words = recreate.write_config(known, code, tmp_path, tmp_path, ["model=logistic_regression"])
    assert words[-1] == recreate.NAME
    text = json.loads((tmp_path / f"{recreate.NAME}.yaml").read_text())
    assert text["etl"]["sep"] == "\\${x}"  # a key of an earlier version, under its new name
    assert text["defaults"] == ["schema", "_self_", {"model": "logistic_regression"}]
    assert text["model"]["params"] == {}
    assert os.sep not in text["main"]["project_name"]
