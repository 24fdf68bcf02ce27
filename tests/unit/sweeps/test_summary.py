"""A sweep is summed up whatever its values look like."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline.sweeps import summary
from pipeline.sweeps.record import TrialRecord
from tests.support import screens

ODD = ["[/red]", "[bold]x", "under_$50_or_over_$100", "\x1b[2Jend"]
CONFIG = OmegaConf.create({"search": {"metric": None}})


@pytest.fixture
def trials() -> list[TrialRecord]:
    return [
        TrialRecord(
            number, "FINISHED", "run", {"etl.fill[x]": value}, number / 10, {"f1": 0.1}, 1.0,
            overrides=[f"etl.fill={value}"],
        )
        for number, value in enumerate(ODD)
    ]  # fmt: skip


def test_values_are_text(trials: list[TrialRecord], tmp_path: Path, capsys: pytest.CaptureFixture):
    summary.show(trials, CONFIG, "id", tmp_path)
    shown = capsys.readouterr().out
    assert all(value.replace("\x1b", "") in shown for value in ODD)
    assert "fill[x]" in shown
    assert "\x1b" not in shown


def test_the_best_trials():
    given = {"model.params.depth": 5, "model.params.kind": "gini", "etl.fill[x]": "none " * 20}
    trials = [
        TrialRecord(n, "FINISHED", "run", {key: str(value) for key, value in given.items()}
                    | {"model.params.depth": str(n)}, n / 7, {"f1": 0.1}, 1234.5 * n,
                    overrides=[f"model.params.depth={n}"])
        for n in range(12)
    ]  # fmt: skip
    screens.check(
        __file__,
        "best",
        lambda console: summary.show(trials, CONFIG, "20261121-070701-8f6ff1", Path("/x"), console),
    )


def test_figures_are_drawn(trials: list[TrialRecord], tmp_path: Path):
    pytest.importorskip("optuna")
    from pipeline.sweeps import figures

    drawn, importances = figures.draw(trials, {"etl.fill[x]": "$a_$b"}, "f1", False, tmp_path)
    assert [*importances] == ["$a_$b"]
    assert drawn
    assert all(path.stat().st_size for path in drawn.values())
