"""What the live table and its console print: text as it is, and no commands for a terminal."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.core.results import StepResult
from pipeline.orchestration import explain
from pipeline.orchestration.terminal import PlainConsole, Screen, print_result
from pipeline.reporting.graph import Step
from tests.support import screens

ODD = "[bold]x[/nope] :smile: \x1b[2J\x07"
SHOWN = "[bold]x[/nope] :smile: [2J"


@pytest.mark.parametrize("terminal", [True, False])
def test_text_is_text(terminal: bool):
    """As it is, in a table, its header, or a styled text; what the console itself does stays."""
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=terminal, width=100)
    table = Table(box=None)
    table.add_column(ODD)
    table.add_row(ODD)
    for one in (ODD, Text(ODD), table):
        console.print(one, style="bold")
    assert out.getvalue().count(SHOWN) == 4
    assert "\x1b[2J" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert ("\x1b[1m" in out.getvalue()) is terminal


def test_a_result_is_told_as_it_is():
    out = io.StringIO()
    console = PlainConsole(file=out, width=200)
    step = StepResult("2-ETL", "ran", tracker_url=f"https://example.com/{ODD}")
    print_result(console, [step], {"f1[/b]": 1.0, "val_f1[/b]": 0.5}, [ODD])
    assert out.getvalue().count(SHOWN) == 2
    assert "f1[/b]" in out.getvalue()


def test_steps_as_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    log = tmp_path / "step.log"
    log.write_text(f"reading\n{'a long line that a step has written ' * 9}\n")
    screen = Screen(["1-Download_data", "2-ETL", "3-Split_dataset", "4-Training_model", "5-Report"])
    screen.ended("1-Download_data", "cached", 0.02, "pokemon.csv:v0")
    screen.ended("2-ETL", "failed", 1234.5, "")
    screen.started("3-Split_dataset", log)
    screen.building("4-Training_model")
    screens.check(__file__, "steps", lambda console: console.print(screen.table()))
    screen.close()


def test_each_of_several_targets_is_a_row():
    out = io.StringIO()
    told = {"rmse": 1.5, "rmse.solar": 1.0, "rmse.wind": 2.0}
    print_result(PlainConsole(file=out, width=80), [], told, [])
    rows = [line.split() for line in out.getvalue().splitlines() if line.strip()]
    assert rows == [["rmse"], ["test", "1.5"], ["test", "solar", "1"], ["test", "wind", "2"]]


def test_an_explanation():
    graph_steps = [
        Step("1-Download_data", [], {"pokemon.csv": "v0"}, "cached"),
        Step("2-ETL", ["pokemon.csv"], {"clean_data.csv": ""}, "would run"),
        Step("3-Split_dataset", ["clean_data.csv"], {"a.csv": "", "b.csv": ""}, "would run"),
    ]

    def show(console: Console) -> None:
        screen = Screen([step.name for step in graph_steps])
        screen.console = console
        screen.explain("2-ETL", ["etl.fill is new: {'type_2': 'none'}"])
        explain.print_graph(screen.console, graph_steps)
        screen.close()

    screens.check(__file__, "explain", show)


def test_a_result():
    metrics = {"f1": 0.93125, "roc_auc": 0.97, "rmse": 199_600.0, "val_f1": 0.5, "cv_f1_mean": 0.4}
    steps = [
        StepResult("4-Training_model", "ran", tracker_url="https://wandb.ai/me/pokemon/runs/1")
    ]
    hints = ["run 20261121-070701-8f6ff1: .pipeline/runs/20261121-070701-8f6ff1"]
    screens.check(__file__, "result", lambda console: print_result(console, steps, metrics, hints))
