"""The report of any model and table can be read: nothing is cut without a sign, none is empty."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.svm import LinearSVC

from pipeline.core.errors import PipelineError
from pipeline.reporting import charts
from pipeline.science.evaluation import Predictions
from pipeline.science.inspection import diagnostics
from tests.support.reports import ODD, many_classes, numbers, odd_labels, report

LARGEST = 1_500_000


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(5, random_state=0)


def readable(text: str) -> str:
    """A page's text without its drawings' files."""
    assert len(text.encode()) < LARGEST
    shown = re.sub(r'href="data:[^"]*"', "", text)
    assert "nan" not in re.findall(r"[a-z]+", shown)
    assert not re.search(r"\binf\b", shown)
    return shown


def test_300_classes_are_listed_in_part_and_it_says_so():
    text = readable(report(many_classes(), "kind", forest(), test_rows=300))
    assert "A confusion matrix of 300 classes would not be readable" in text
    assert "275 more classes are not listed" in text
    assert "The curves are those of the 8 most frequent of 300 classes" in text
    assert "Most confused classes" in text


def test_many_columns_are_listed_in_part_and_it_says_so():
    table = numbers(60, 400).assign(y=lambda t: t.x0 > 0)
    text = readable(report(table, "y", forest(), positive=True))
    assert "201 more columns are not listed" in text
    assert "12 of 401 columns" in text


def test_labels_are_whole_or_have_a_sign():
    text = readable(report(odd_labels(), "kind", forest()))
    assert "<b>" not in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert ODD[4] in text
    assert f"{'x' * 18}…" in text


@pytest.mark.parametrize("rows", [1, 2])
def test_a_test_part_of_a_row_or_two(rows: int):
    table = numbers(40)
    readable(report(table.assign(y=lambda t: t.x0 > 0), "y", forest(), test_rows=rows))
    text = readable(report(table.assign(y=table.x0), "y", LinearRegression(), test_rows=rows))
    assert "Predicted against true" in text


def test_a_test_part_of_one_class_has_no_curve():
    table = numbers(40).assign(y=lambda t: np.where(t.index < 20, t.x0 > 0, True))
    text = readable(report(table, "y", DummyClassifier(), positive=True))
    assert "ROC curve" not in text


def test_a_model_without_probabilities():
    table = numbers(40).assign(y=lambda t: t.x0 > 0)
    text = readable(report(table, "y", VotingClassifier([("one", LinearSVC())]), positive=True))
    assert "no threshold to choose" in text
    assert "Calibration" not in text


def test_a_table_without_values():
    table = pd.DataFrame({"a": np.full(40, np.nan), "b": [None] * 40, "y": [True, False] * 20})
    table["c"] = np.arange(40.0) % 7
    text = readable(report(table, "y", forest(), positive=True))
    assert "80 of 160 (50.0%)" in text


def test_a_learning_curve_is_drawn_on_request():
    table = numbers(40).assign(y=lambda t: t.x0 > 0)
    for asked in (False, True):
        text = report(table, "y", forest(), positive=True, learning_curve=asked)
        assert ("Where the curves still approach each other" in readable(text)) == asked


def test_drift_since_the_previous_training_data_is_told():
    table = numbers(200).assign(y=lambda t: t.x0 > 0)
    text = readable(
        report(table, "y", forest(), positive=True, earlier=table.assign(x1=table.x1 + 5))
    )
    assert re.search(r"<th>x1</th><td>much</td>", text)
    assert "training, previous run" in text


def test_mistakes_cost_what_is_said():
    table = numbers(200).assign(y=lambda t: t.x0 + t.x1 > 0)
    best = {}
    for wrong, missed in ((1, 1000), (1000, 1)):
        costs = {"false_positive": wrong, "false_negative": missed}
        text = readable(report(table, "y", forest(), positive=True, costs=costs))
        best[missed] = float(re.findall(r'<tr class="best"><th>(\S+)</th>', text)[0])
    assert best[1000] < best[1]
    assert "1,000 for a false positive" in text


@pytest.mark.parametrize(
    ("costs", "target"),
    [
        ({"false_positive": 1}, lambda t: t.x0 > 0),
        ({"false_positive": 1, "false_negative": -1}, lambda t: t.x0 > 0),
        ({"false_positive": 1, "false_negative": "a"}, lambda t: t.x0 > 0),
        (
            {"false_positive": 1, "false_negative": 1},
            lambda t: t.x0.round().astype(int).clip(-1, 1),
        ),
    ],
)
def test_costs_that_cannot_be_are_refused(costs: dict, target):
    with pytest.raises(PipelineError, match=r"report\.costs"):
        report(numbers(200).assign(y=target), "y", forest(), costs=costs)


def test_ticks_are_round_and_hold_the_values():
    for low, high in [(0, 1), (-3.2, 17), (1e-6, 3e-6), (199_600, 201_000), (5, 5), (0, 0)]:
        held = charts.axis([low, high])
        values = [value for value, _ in held.ticks]
        assert held.low <= low <= high <= held.high
        assert 3 <= len(values) <= 8
        assert values == pytest.approx(
            [value for value in values if held.low <= value <= held.high]
        )
    assert charts.axis([199_600, 201_000]).ticks[0][1] == "199,500"


def test_long_labels_have_room_and_do_not_touch():
    short, wide = charts.axis([0, 1]), charts.axis([-400_000, 600_000])
    narrow, broad = charts.Plot(short, short), charts.Plot(wide, wide)
    assert (narrow.left, narrow.right) == (0, 0)
    assert narrow.x_ticks == short.ticks
    assert broad.left > 0 < broad.right
    huge = charts.Plot(charts.axis([-4e6, 6e6]), short).x_ticks
    assert [label for _, label in huge] == ["-4,000,000", "", "0", "", "4,000,000", ""]


def test_names_are_cut_by_their_width():
    assert charts.short("short", 10) == "short"
    assert charts.short("日本語の長い", 6) == "日本…"
    assert len(charts.short("x" * 500, 20)) == 20


def test_calibration_tells_how_often_a_probability_is_true():
    chance = np.tile([0.1, 0.9], 500)
    truth = np.random.default_rng(0).random(1000) < chance
    said = Predictions(
        truth, chance > 0.5, [False, True], np.column_stack([1 - chance, chance]), True
    )
    told = diagnostics.calibration(said)
    assert told["points"] == [(pytest.approx(p), pytest.approx(p, abs=0.05)) for p in (0.1, 0.9)]
    assert told["brier"] == pytest.approx(0.09, abs=0.02)
    assert diagnostics.operating_point(said)["roc"][1] == pytest.approx(0.9, abs=0.05)
