"""Runs that can't be reproduced exactly, or by everyone: what is said of them."""

import json
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.tracing import dependencies
from pipeline.history.reproduction import recreate, reproduce
from pipeline.history.runs import History
from tests.support.clones import Clone, git, ids, refused, seen


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
    with recreate.code_folder(run) as code:
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
        recreate.code_folder(run).__enter__()


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
