"""5-Report: what is said of a model, and the file it is said in."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from pipeline.core.errors import PipelineError
from pipeline.core.results import MEASUREMENTS
from pipeline.history.records import parse_summary, read_text
from pipeline.history.stored import step_files
from pipeline.reporting import report as html
from pipeline.science import evaluation, tasks
from pipeline.science.inspection import intervals, report_data
from pipeline.steps.context import StepContext
from pipeline.steps.folders import chosen_steps
from pipeline.tracking import Artifact
from tests.support.paths import ROOT
from tests.support.runs import SMALL, Checkout, Finished, environment
from tests.support.steps import Steps, load_step

STEP = "5-Report"
ALL = "main.steps=all"
report = load_step(STEP)


# What is measured


class Said:
    """A classifier that says and scores what it is told to."""

    _estimator_type = "classifier"

    def __init__(self, classes: list, predicted: np.ndarray, scores: np.ndarray):
        self.classes_, self.predicted, self.scores = classes, predicted, scores

    def __sklearn_tags__(self) -> Any:
        return LinearSVC().__sklearn_tags__()

    def predict(self, _: object) -> np.ndarray:
        return self.predicted

    def predict_proba(self, _: object) -> np.ndarray:
        return self.scores


@given(st.integers(2, 4), st.integers(5, 60), st.integers(0, 10_000))
def test_metrics_of_weights_of_one_are_the_metrics(classes: int, rows: int, seed: int):
    draw = np.random.default_rng(seed)
    truth, predicted = draw.integers(classes, size=(2, rows))
    truth[:classes] = range(classes)
    scores = draw.integers(6, size=(rows, classes)) / 5  # with many ties
    model = Said([*range(classes)], predicted, scores)
    wanted = evaluation.metrics(evaluation.predict(model, None, pd.Series(truth)))
    measure = intervals.class_measure(truth, predicted, scores, model.classes_)
    found = measure(np.arange(rows))(np.ones((1, rows)))
    assert {name: values[0] for name, values in found.items()} == pytest.approx(wanted)


def test_metrics_of_numbers_too():
    truth, predicted = 1e6 + np.arange(50.0), 1e6 + np.arange(50.0)[::-1] ** 0.9
    found = intervals.number_measure(truth, predicted)(np.arange(50))(np.ones((1, 50)))
    model = type("Said", (), {"predict": lambda self, _: predicted})()
    model.__sklearn_tags__ = LinearRegression().__sklearn_tags__
    wanted = evaluation.metrics(evaluation.predict(model, None, pd.Series(truth)))
    assert {name: values[0] for name, values in found.items()} == pytest.approx(wanted)


@pytest.mark.parametrize("rows", [400, 40_000])  # all of them, and a part that stands for them
def test_an_interval_is_as_wide_as_the_rows_allow(rows: int):
    draw = np.random.default_rng(1)
    truth = np.arange(rows) % 2
    predicted = np.where(draw.random(rows) < 0.8, truth, 1 - truth)
    accuracy = float((truth == predicted).mean())
    measure = intervals.class_measure(truth, predicted, None, [0, 1])
    again = [
        intervals.intervals(measure, rows, {"accuracy": accuracy}, 2000, 7)["accuracy"]
        for _ in range(2)
    ]
    assert again[0] == again[1]
    low, high = again[0]
    assert low < accuracy < high
    wanted = 2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / rows)
    assert high - low == pytest.approx(wanted, rel=0.15)


def test_thresholds_count_what_is_said_rightly_wrongly_and_not_at_all():
    truth = np.array([True, True, False, False])
    rows = report_data.thresholds(truth, np.array([0.9, 0.4, 0.6, 0.1]), probable=True)
    half = next(row for row in rows if row["threshold"] == 0.5)
    assert (half["said"], half["right"], half["wrong"], half["missed"]) == (2, 1, 1, 1)
    assert (half["precision"], half["recall"], half["f1"]) == (0.5, 0.5, 0.5)
    assert all(row["right"] + row["missed"] == 2 for row in rows)


def test_the_hardest_mistakes_come_first():
    told = {
        "truth": np.array(["a", "b", "a", "c"]),
        "predicted": np.array(["b", "b", "b", "a"]),
        "scores": np.array([[0.4, 0.6], [0.1, 0.9], [0.05, 0.95], [1, 0]]),
        "classes": ["a", "b"],
    }
    rows = report_data.mistakes(["w", "x", "y", "z"], told, 10)
    assert [row["name"] for row in rows] == ["z", "y", "w"]  # c is a class the model never saw
    assert rows[1]["measure"] == 0.05
    numbers = report_data.number_mistakes(
        ["p", "q"], np.array([1.0, 2.0]), np.array([1.5, -2.0]), 1
    )
    assert (numbers[0]["name"], numbers[0]["measure"]) == ("q", -4.0)


def test_rows_are_named_by_words_that_are_all_different():
    table = pd.DataFrame({"kind": ["x", "x"], "name": ["A", "B"], "y": [1, 2]})
    assert report_data.names_of_rows(table, ["y"], None) == ("name", ["A", "B"])
    assert report_data.names_of_rows(table, ["y"], "y") == ("y", ["1", "2"])
    assert report_data.names_of_rows(table, ["y", "name"], None) == ("row", ["1", "2"])
    with pytest.raises(PipelineError, match="did you mean 'name'"):
        report_data.names_of_rows(table, ["y"], "nam")


def test_a_sweep_writes_no_report_unless_asked():
    assert STEP in chosen_steps("all")
    assert STEP not in chosen_steps("all", sweep=True)
    assert chosen_steps(["train", "report"], sweep=True) == ["4-Training_model", STEP]


# The file


class Tags(HTMLParser):
    """The tags of a page, and every address in it."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "link"):
            self.open.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(text: str) -> Tags:
    """A report, after a look that it is whole and needs nothing else."""
    tags = Tags(text)
    assert not tags.open
    inside = ("#", "data:,", "data:image/svg+xml;base64,")
    assert [place for place in tags.addresses if not place.startswith(inside)] == []
    assert "script" not in tags.seen
    assert "url(" not in text.replace("url(#", "")  # but for a mark in the page itself
    assert "nan" not in re.findall(r"[a-z]+", re.sub(r'href="data:[^"]*"', "", text))
    return tags


def write(
    model: Any,
    table: pd.DataFrame,
    target: str | list[str],
    before: dict | None = None,
    notes: list[dict] | None = None,
) -> str:
    """The report of a model fitted on the first half of a table and measured on the second."""
    features = [name for name in table if name not in [*tasks.names(target), "name"]]
    half = len(table) // 2
    train, test = table[:half], table[half:].reset_index(drop=True)
    model.fit(train[features], train[target])
    names = {"train": "train_data.csv", "test": "test_data.csv", "model": "model"}
    known = {key: Artifact(name, "v0", key * 16) for key, name in names.items()}
    known["model"] = Artifact("model", "v0", "m" * 64, metadata={"target": target})
    if notes:  # both parts have those of the split
        known |= {
            key: Artifact(names[key], "v0", key * 16, metadata={"notes": notes})
            for key in ("train", "test")
        }
    words = [f"--{key}_artifact={name}:v0" for key, name in names.items()]
    args = report.arguments().parse_args(words)
    earlier = Artifact("report.html", "v0", "r" * 64, metadata=before) if before else None
    numbers = report_data.collect(
        model, train, test, target=target, train_name="train", test_name="test", identifier=None,
        mistakes_shown=20, resamples=50, random_state=42, cleaning={},
    )  # fmt: skip
    commands = report.gathering.commands(args, report.arguments(), None, StepContext())
    return html.render(numbers, known, project="pokemon", before=earlier, commands=commands)


def forest() -> Any:
    """A small classifier."""
    return make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0))


def table_of(rows: int = 60) -> pd.DataFrame:
    """Two numbers, and a name that would like to be more than text."""
    draw = np.random.default_rng(3)
    frame = pd.DataFrame(draw.normal(size=(rows, 2)), columns=["a", "b"])
    return frame.assign(name=[f"<script>alert({i})</script> & 'it'" for i in range(rows)])


def test_text_of_the_data_stays_text():
    table = table_of().assign(kind=lambda t: np.where(t.a > 0, "<b>x</b>", '"y"'))
    noisy = np.random.default_rng(5).permutation(len(table))
    table["kind"] = np.where(noisy % 4 == 0, '"y"', table["kind"])  # so that mistakes are made
    text = write(forest(), table, "kind")
    page(text)
    assert "&lt;script&gt;alert(" in text
    assert "<b>" not in text


@pytest.mark.parametrize(
    ("model", "target", "words"),
    [
        (forest(), lambda t: (t.a > 0) + 0 + (t.b > 0),
         ["probability of the true class", "ROC curve", "means over the 3 classes", "at least"]),
        (make_pipeline(StandardScaler(), LinearSVC()), lambda t: t.a > 0, ["of the score", "f1"]),
        (make_pipeline(LinearRegression()), lambda t: t.a - t.b + 0.1 * t.a**2,
         ["absolute error at most", "true − predicted", "rmse"]),
    ],
    ids=["classes", "margins", "numbers"],
)  # fmt: skip
def test_every_kind_of_model_has_its_report(model: Any, target: Any, words: list[str]):
    text = write(model, table_of().assign(y=target), "y")
    page(text)
    baselines = ["dummy baseline", "linear baseline", "Permutation importance"]
    for word in [*words, *baselines, "This is the first report", "Worst predictions"]:
        assert word in text


def test_several_targets_have_one_report():
    table = table_of().assign(y=lambda t: t.a - t.b, z=lambda t: t.a * t.b)
    text = write(make_pipeline(LinearRegression()), table, ["y", "z"])
    page(text)
    for word in ("<dd>y, z</dd>", "rmse.y", "r2.z", "Residuals of z", "<h3>y</h3>", "y: mean"):
        assert word in text
    assert "largest error, in standard deviations" in text


def test_what_was_decided_comes_first_and_warnings_before_it():
    told = [
        {"text": "a note of <b>", "warning": False},
        {"text": "day is a date", "warning": True},
    ]
    text = write(forest(), table_of().assign(y=lambda t: t.a > 0), "y", notes=told)
    page(text)
    places = [
        text.index(word)
        for word in (
            ">Decisions and warnings</h2>",
            "day is a date",
            "a note of &lt;b&gt;",
            ">Metrics</h2>",
        )
    ]
    assert places == sorted(places)
    assert text.count("day is a date") == 1
    assert "Decisions and warnings" not in write(forest(), table_of().assign(y=[0, 1] * 30), "y")


def test_a_change_is_counted_from_the_report_before():
    table = table_of().assign(y=lambda t: t.a > 0)
    model = forest()
    text = write(
        model, table, "y", {"metrics": {"accuracy": 0.5}, "model": "model:v8", "test": "x"}
    )
    assert "report.html:v0, the report of model:v8" in text
    assert "other test data" in text
    assert re.search(r"<th>accuracy</th><td>0.500</td><td>0.\d+</td><td>\+0.\d+</td>", text)


# The step


@pytest.fixture(scope="module")
def checkout(
    finished: tuple[Checkout, Finished], tmp_path_factory: pytest.TempPathFactory
) -> Checkout:
    """A copy of the place of the first run."""
    return finished[0].copy(tmp_path_factory.mktemp("reports") / "home")


@pytest.fixture(scope="module")
def first(checkout: Checkout) -> Finished:
    """The same run once more, with its report."""
    done = checkout.run(SMALL, ALL)
    assert done.status == 0, done.err
    return done


def test_the_report_is_an_artifact_and_a_file_of_its_run(checkout: Checkout, first: Finished):
    assert first.states == ["cached"] * 4 + ["ran"]
    made = first.outputs()["report.html"]
    assert (made["version"], made["type"]) == ("v0", "report")
    text = (first.folder / "report.html").read_text()
    page(text)
    for name in ("pokemon.csv", "clean_data.csv", "train_data.csv", "test_data.csv", "model"):
        assert first.outputs()[name]["digest"] in text
    assert "This is the first report" in text
    assert "make report" in first.out
    step = first.summary["steps"][STEP]
    client = mlflow.MlflowClient(f"sqlite:///{checkout.state / 'mlflow.db'}")
    files = [file.path for file in client.list_artifacts(step["mlflow_run"])]
    assert {"report.html", MEASUREMENTS} <= set(files)
    assert first.summary["metrics"]["f1"] > 0  # the model's, not the report's


def test_a_comparison_reads_its_intervals_and_curves(
    checkout: Checkout,
    first: Finished,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(checkout.state))
    run = parse_summary(read_text(first.folder / "summary.json"), "first")
    measured = step_files.measurements(run)
    low, high = measured["intervals"]["f1"]
    assert low <= first.summary["metrics"]["f1"] <= high
    assert [line["label"] for line in measured["curves"]["roc"]] == ["True"]
    file = first.folder / MEASUREMENTS
    text = file.read_text()
    try:
        file.unlink()
        assert step_files.measurements(run) == measured  # from MLflow
        file.write_text(text[:50])
        assert step_files.measurements(run) is None
        assert f"{MEASUREMENTS} of run {run.id} counts as absent" in capsys.readouterr().err
    finally:
        file.write_text(text)


def test_its_command_makes_the_very_same_model_and_report(checkout: Checkout, first: Finished):
    text = (first.folder / "report.html").read_text()
    line = next(line for line in text.splitlines() if line.startswith("python main.py"))
    words = line.split()[2:]
    assert SMALL in words
    assert not any(word.startswith("main.") for word in words)
    assert words.pop() == f"data.sha256={first.outputs()['pokemon.csv']['digest']}"
    again = checkout.run(*words, "main.steps=[train,report]", "main.force=true")
    assert again.states == ["skipped"] * 3 + ["ran"] * 2
    assert again.outputs() == first.outputs()
    assert checkout.run(SMALL, ALL).states == ["cached"] * 5


def test_another_model_is_compared_with_the_one_before(checkout: Checkout, first: Finished):
    changed = checkout.run("model.params.n_estimators=7", ALL)
    text = (changed.folder / "report.html").read_text()
    assert "Against report.html:v0, the report of model:v0" in text
    assert "measured on the same test data" in text
    assert last_report(checkout.state) == changed.folder / "report.html"
    (changed.folder / "report.html").unlink()
    assert last_report(checkout.state).read_text() == text  # from MLflow


def last_report(state: Path) -> Path:
    """What ``python -m pipeline report`` names."""
    command = [sys.executable, "-m", "pipeline", "--state-dir", str(state), "report"]
    told = subprocess.check_output([*command, "--no-browser"], cwd=ROOT, text=True,
                                   env=environment(state.parent))  # fmt: skip
    return Path(told.strip())


def test_alone_it_runs_through_mlflow(chain: tuple[Steps, dict[str, Finished]]):
    place, _ = chain
    store = f"sqlite:///{place.state / 'mlflow.db'}"
    given = {"model_artifact": "model:v0", "train_artifact": "train_data.csv:v0",
             "test_artifact": "test_data.csv:v0", "identifier": "name"}  # fmt: skip
    words = [part for key, value in given.items() for part in ("-P", f"{key}={value}")]
    state = {"PIPELINE_STATE_DIR": str(place.state), "MLFLOW_TRACKING_URI": store}
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(ROOT / STEP), "--env-manager=local",
         f"--storage-dir={place.home}", *words],
        cwd=place.home, env=environment(place.home, **state),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(store)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert any(file.path == "report.html" for run in runs
               for file in client.list_artifacts(run.info.run_id))  # fmt: skip
    assert place.artifacts()["report.html:v0"]["model"] == "model:v0"


def test_what_does_not_fit_is_named(chain: tuple[Steps, dict[str, Finished]]):
    place, _ = chain
    place.refused(STEP, "report.html:v99", "not found", previous="report.html:v99")


def test_no_report_yet_is_said(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "--state-dir", str(tmp_path), "report"],
        cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "make run comes first" in done.stderr
