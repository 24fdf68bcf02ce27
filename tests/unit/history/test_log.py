"""What the commands on recorded runs print, on terminals of two widths and for programs."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.core.results import StepResult
from pipeline.history import compare, export, log
from pipeline.history.compare import Comparison
from pipeline.history.log import Entry
from pipeline.history.records import RunRecord
from pipeline.reporting import tables
from tests.support import screens

FOREST, MLP = "sklearn.ensemble.RandomForestClassifier", "sklearn.neural_network.MLPClassifier"
SCORES = {"accuracy": 0.93125, "precision": 0.58333, "recall": 0.53846, "f1": 0.56,
          "roc_auc": 0.97226, "average_precision": 0.697, "log_loss": 0.2}  # fmt: skip
SCHEMA = [{"column": f"column_{number}", "dtype": "float"} for number in range(20)]


def made(number: int, model: dict[str, Any], metrics: dict[str, float], version: str) -> RunRecord:
    """The record of a run whose artifacts have a version."""
    test = {"name": "test_data.csv", "version": "v0", "digest": "a" * 64, "type": "split_data"}
    clean = {"name": "clean_data.csv", "version": version, "digest": version * 20, "type": "data"}
    step = StepResult("4-Training_model", "ran", inputs=[clean, test], metrics=metrics)
    config = {"etl": {"schema": SCHEMA}, "model": model, "search": {"space": model["params"]}}
    return RunRecord(
        id=f"20261121-07070{number}-8f6ff{number}",
        status="finished",
        started=datetime(2026, 11, 21, 7, 7, tzinfo=UTC) + timedelta(hours=number),
        developer="Misty Williams of Cerulean City",
        project="pokemon",
        experiment="dev",
        tracker="trackio",
        commit="4a4bd3a9" * 5,
        dirty=number > 1,
        config={**config, "split": {"test_artifact_name": "test_data.csv"}},
        metrics=metrics,
        steps={"4-Training_model": step},
        mlflow_run=None,
    )


FIRST = made(1, {"estimator": FOREST, "params": {"n_estimators": 100}}, SCORES, "v0")
CHANGED = SCORES | {"f1": 0.61538, "log_loss": 199_600.0}
SECOND = made(2, {"estimator": MLP, "params": {"alpha": 0.1, "hidden": [64] * 30}}, CHANGED, "v1")
ENTRIES = [Entry(SECOND, FIRST, [f"pipeline/file_{n}.py" for n in range(8)]), Entry(FIRST, None)]


def test_log():
    screens.check(__file__, "log", lambda console: log.log(console, ENTRIES))


def test_show():
    screens.check(__file__, "show", lambda console: log.show(console, SECOND))


def test_two_runs():
    both = Comparison([FIRST, SECOND])
    screens.check(__file__, "compare", lambda console: compare.show(both, console))


def test_many_runs():
    runs = [replace(FIRST, id=f"{FIRST.id}-{n}", metrics={"f1": n / 7}) for n in range(4)]
    many = Comparison([*runs, SECOND])
    screens.check(__file__, "compare-many", lambda console: compare.show(many, console))


def test_wide_shows_all():
    out = io.StringIO()
    console = screens.PlainConsole(file=out, width=10_000)
    log.log(console, ENTRIES, wide=True)
    compare.show(Comparison([FIRST, SECOND]), console, wide=True)
    log.show(console, SECOND, wide=True)
    text = out.getvalue()
    assert text.count(json.dumps([64] * 30)) == 6  # of params and of the space, three times
    assert text.count(MLP) == 3
    assert json.dumps(SCHEMA) in text
    assert "pipeline/file_7.py" in text
    assert "…" not in text


def test_log_for_programs():
    rows = [*map(log.as_row, ENTRIES)]
    told, _ = json.loads(tables.as_text(rows, "json"))
    assert told["parameters"]["model.estimator"] == [FOREST, MLP]
    assert told["differences"] == {n: CHANGED[n] - SCORES[n] for n in ("f1", "log_loss")}
    assert told["data"] == {"clean_data.csv": ["v0", "v1"]}
    cells, _ = csv.DictReader(io.StringIO(tables.as_text(rows, "csv")))
    assert float(cells["metrics.f1"]) == CHANGED["f1"]
    assert cells["data"] == "clean_data.csv v0 -> v1"
    assert cells["code"].startswith("pipeline/file_0.py; pipeline/file_1.py")
    assert len(tables.as_text(rows, "markdown").splitlines()) == 4


def test_a_comparison_as_markdown():
    text = export.as_markdown(Comparison([FIRST, SECOND]))
    assert "| f1 | 0.56 | 0.6154 (+0.0554) |" in text
    assert f"| model.estimator | {FOREST} | {MLP.replace('_', chr(92) + '_')} |" in text
    assert "| clean\\_data.csv | v0 | v1 |" in text


@pytest.mark.parametrize("cell", ["a|b", "a\nb", "<b>x</b>", "[x](http://y)", "`x`", "\x1b[2J"])
def test_a_cell_is_one_cell_of_plain_text(cell: str):
    text = tables.as_text([{"x": cell, "y": None}], "markdown")
    row = text.splitlines()[2]
    assert len(text.splitlines()) == 3
    assert row.replace("\\|", "").count("|") == 3
    assert not any(f" {sign}" in row for sign in ("<b>", "[", "`", "\x1b"))


def test_what_json_cannot_hold_is_null():
    [row] = json.loads(tables.as_text([{"x": {"y": [float("nan"), (1, float("inf"))]}}], "json"))
    assert row == {"x": {"y": [None, [1, None]]}}
