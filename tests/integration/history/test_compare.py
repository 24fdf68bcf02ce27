"""Runs are found again, by those who made them and by colleagues, and compared."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.__main__ import main
from pipeline.core.errors import PipelineError
from pipeline.history import compare, export
from pipeline.history.compare import Comparison, choose
from pipeline.history.records import RunRecord, flat
from pipeline.history.runs import History
from tests.support import servers
from tests.support.runs import SMALL, Checkout, Finished


@dataclass
class Team:
    """Runs of one developer on an MLflow server, and its address."""

    checkout: Checkout
    url: str
    first: Finished
    again: Finished
    changed: Finished

    @property
    def ids(self) -> list[str]:
        return [run.summary["run_id"] for run in (self.first, self.again, self.changed)]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    checkout = Checkout(folder / "one")
    with servers.mlflow_server(folder, f"sqlite:///{folder / 'server.db'}") as url:
        shared = {"MLFLOW_TRACKING_URI": url}
        runs = [
            checkout.run(SMALL, **shared),
            checkout.run(SMALL, **shared),
            checkout.run("model.params.n_estimators=3", "main.experiment_name=prod", **shared),
        ]
        assert [run.status for run in runs] == [0, 0, 0], runs
        yield Team(checkout, url, *runs)


@pytest.fixture
def here(team: Team, monkeypatch: pytest.MonkeyPatch) -> Team:
    """As the developer who made the runs."""
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(team.checkout.state))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team.url)
    return team


@pytest.fixture
def colleague(here: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """As somebody else on the same MLflow server, who has run nothing."""
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / "other"))
    return here


def printed(comparison: Comparison, width: int = 80) -> str:
    text = io.StringIO()
    compare.show(comparison, Console(file=text, width=width, highlight=False))
    assert max(map(len, text.getvalue().splitlines())) <= width
    return text.getvalue()


def test_parameters_metrics_data_and_code_of_two_runs(here: Team):
    first, _, changed = here.ids
    found = choose([first, changed], None, None, None)
    assert found.parameters["model.params.n_estimators"] == ["5", "3"]
    assert set(found.parameters) == {"model.params.n_estimators", "main.experiment_name"}
    metrics = [run.summary["metrics"] for run in (here.first, here.changed)]
    assert found.metrics["f1"] == [metrics[0]["f1"], metrics[1]["f1"]]
    assert found.differences("f1")[1] == pytest.approx(metrics[1]["f1"] - metrics[0]["f1"])
    for name, artifact in here.changed.outputs().items():
        seen = found.artifacts[name][1]
        assert (seen["version"], seen["digest"]) == (artifact["version"], artifact["digest"])
    text = printed(found)
    assert first in text
    assert here.first.summary["git_commit"][:8] in text
    assert f"model  v0 {here.first.outputs()['model']['digest'][:8]}" in text
    assert "data, the same in all\n  pokemon.csv v0" in text


def test_a_run_in_which_nothing_had_to_be_done_is_a_run_like_any_other(here: Team):
    first, again, _ = here.ids
    assert here.again.summary["mlflow_run"] is None
    found = choose([first, again], None, None, None)
    assert found.parameters == {}
    assert found.differences("f1") == [None, 0]
    assert found.runs[0].artifacts.keys() == found.runs[1].artifacts.keys()


def test_a_colleague_sees_the_same_with_the_steps_that_were_handed_on(colleague: Team):
    first, _, changed = colleague.ids
    theirs = choose([first, changed], None, None, None)
    assert theirs.runs[1].folder is None
    assert theirs.runs[1].steps["2-ETL"].status == "cached"
    assert theirs.runs[1].artifacts.keys() == {
        "pokemon.csv", "clean_data.csv", "train_data.csv", "test_data.csv", "model", "preprocessor",
    }  # fmt: skip
    assert theirs.metrics["f1"] == [
        r.summary["metrics"]["f1"] for r in (colleague.first, colleague.changed)
    ]
    assert set(theirs.parameters) == {"model.params.n_estimators", "main.experiment_name"}
    assert [run.id for run in History().runs()] == [changed, first]
    assert History().find("last").id == changed


def test_the_best_come_first_and_each_model_once(here: Team):
    first, again, changed = here.ids
    f1 = {run.summary["run_id"]: run.summary["metrics"]["f1"] for run in (here.first, here.changed)}
    found = choose([], 10, None, None)
    assert found.metric == "f1"
    assert [run.id for run in found.runs] == sorted(f1, key=f1.get, reverse=True)
    assert [run.id for run in choose([], None, "prod", "accuracy").runs] == [changed]
    assert len(choose([], 1, None, None).runs) == 1
    ordered = choose([first, again, changed], None, None, "f1").runs
    assert [f1.get(run.id, f1[first]) for run in ordered] == sorted(
        [f1[first], f1[first], f1[changed]], reverse=True
    )


def test_ids_may_be_shortened_and_last_is_the_newest(here: Team):
    history = History()
    first, _, changed = here.ids
    assert history.find("last").id == changed
    assert history.find(first[:-1]).id == first
    with pytest.raises(PipelineError, match="3 runs begin with '20'"):
        history.find("20")


@pytest.mark.parametrize("name", ["", "x' or '1'='1", "%", "20261121_000000", "nothing"])
def test_a_name_that_no_run_has(colleague: Team, name: str):
    with pytest.raises(PipelineError, match="there is no run"):
        History().find(name)


def test_a_slip_in_an_id_is_noticed(here: Team):
    wrong = here.ids[0][:-1] + ("0" if here.ids[0][-1] != "0" else "1")
    with pytest.raises(PipelineError, match=f"did you mean '{here.ids[0]}'"):
        History().find(wrong)


def test_as_files(here: Team, tmp_path: Path, capsys: pytest.CaptureFixture):
    first, _, changed = here.ids
    for suffix in ("json", "csv", "html"):
        command = ["compare", first, changed, "--output", str(tmp_path / f"runs.{suffix}")]
        assert main(command) == 0
    told = json.loads((tmp_path / "runs.json").read_text())
    assert told["compared_with"] == first
    assert [run["parameters"]["model.params.n_estimators"] for run in told["runs"]] == [5, 3]
    assert told["runs"][1]["metrics"] == here.changed.summary["metrics"]
    assert told["runs"][0]["commit"] == here.first.summary["git_commit"]
    rows = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert [row["run"] for row in rows] == [first, changed]
    assert float(rows[1]["metric.f1"]) == here.changed.summary["metrics"]["f1"]
    assert rows[1]["digest.model"] == here.changed.outputs()["model"]["digest"]
    page = (tmp_path / "runs.html").read_text()
    assert page.count("<td") == page.count("</td>") > 20
    assert "://" not in page  # it needs no other file


MISTAKES = {
    "unknown metric": (["--metric", "f2"], "no finished run has the metric 'f2'"),
    "unknown experiment": (["--experiment", "prode"], "(did you mean 'prod'?)"),
    "both": (["last", "--best", "3"], "give one or the other"),
    "format": (["last", "--output", "runs.xls"], ".csv, .json, .html"),
    "folder": (["last", "--output", "/proc/no/runs.csv"], "/proc/no/runs.csv can't be written"),
    "metric of none": (["last", "--metric", "f2"], "available metrics: accuracy"),
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told(here: Team, words: list[str], said: str, capsys: pytest.CaptureFixture):
    assert main(["compare", *words]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) <= 4


def test_nothing_is_made_where_nothing_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for words in ([], ["last"], ["20261121-000000-abcdef"]):
        assert main(["compare", *words]) == 1
        assert "there is no run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    port = servers.free_port()
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hidden@127.0.0.1:{port}")
    assert main(["compare", "20261121-000000-abcdef"]) == 1
    told = capsys.readouterr().err
    assert f"no MLflow server answers at MLFLOW_TRACKING_URI=http://127.0.0.1:{port} " in told
    assert "hidden" not in told


def test_a_damaged_record_is_named_and_the_others_are_found(
    here: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    text = (here.first.folder / "summary.json").read_text()
    for name, content in {"whole": text, "cut": text[:500], "other": "[]"}.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "summary.json").write_text(content)
    assert History().find("last").id == here.ids[0]
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 2
    assert "runs/cut/summary.json" in told
    assert "runs/other/summary.json" in told


def test_many_runs_fit_on_a_terminal_and_a_page(here: Team):
    run = History().find(here.ids[0])
    many = [
        replace(
            run,
            id=f"{run.id}-{number}",
            developer="<b>Misty & co, of Cerulean City</b>",
            config={"model": {"params": {"depth": number, "names": ["a"] * 30 + [number]}}},
            metrics={name: value + number / 7 for name, value in run.metrics.items()},
        )
        for number in range(32)
    ]
    text = printed(Comparison(many, "f1"))
    assert sum(line.startswith("32  ") for line in text.splitlines()) == 4
    assert text.splitlines()[32].endswith((run.commit[:8], run.commit[:8] + "*"))
    page = export.as_html(Comparison(many))
    assert "<b>" not in page
    assert "&lt;b&gt;Misty &amp; co" in page
    printed(Comparison(many), 60)


texts = st.text("ab{", max_size=60)


@given(st.lists(texts, min_size=2, max_size=4), st.integers(20, 40))
def test_cut_texts_fit_and_still_differ(values: list[str], width: int):
    cut = compare.windows(values, width)
    assert all(len(text) <= width for text in cut)
    if len(values) == 2 and values[0] != values[1]:
        assert cut[0] != cut[1]


@given(st.lists(st.lists(texts, min_size=1, max_size=3), max_size=8), st.integers(1, 90))
def test_every_column_is_in_one_block_that_fits(columns: list[list[str]], width: int):
    found = compare.blocks(columns, width)
    assert [column for block in found for column in block] == columns
    for block in found:
        needs = sum(2 + max(map(len, column)) for column in block)
        assert needs <= width or len(block) == 1


leaves = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
names = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(leaves, lambda tree: st.dictionaries(names, tree, max_size=3), max_leaves=8)


@given(st.dictionaries(names, trees, max_size=3))
def test_every_setting_is_found_under_its_dotted_key(tree: dict):
    for key, value in flat(tree).items():
        found = tree
        for name in key.split("."):
            found = found[name]
        assert found == value


def test_a_record_says_what_it_is(here: Team):
    run: RunRecord = History().find(here.ids[2])
    assert run.config["main"]["experiment_name"] == "prod" == run.experiment
    assert run.folder == here.changed.folder
    assert run.developer
    assert run.status == "finished"
