"""What is shown of a sweep while it runs, on terminals of two widths and elsewhere."""

import io
from itertools import chain, count, repeat
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console

from pipeline.config import job
from pipeline.orchestration.terminal import PlainConsole
from pipeline.sweeps import callback
from pipeline.sweeps.progress import Progress, Watch
from tests.support import screens

GIVEN = "model.params.n_estimators=200 model.params.max_depth=5 model.params.min_samples_leaf=3"
EVENTS = [
    *({"kind": "begun", "trial": number} for number in range(12)),
    {"kind": "warning", "text": "the address can't be reached"},
    {"kind": "ended", "trial": 0, "given": GIVEN, "value": 0.5, "took": "in 1.5 s"},
    {"kind": "warning", "text": "the address can't be reached"},
    {"kind": "ended", "trial": 1, "given": GIVEN, "value": 0.25, "took": "in 1.5 s"},
    {"kind": "ended", "trial": 2, "given": "C=0", "value": None, "took": "in 0.5 s", "error": "no"},
    {"kind": "note", "text": "trial 3: its worker died, it is retried"},
]


def test_screens():
    def show(console: Console) -> None:
        clock = chain(repeat(0.0, 1), count(60.0, 0.0))
        quiet = PlainConsole(file=io.StringIO())
        progress = Progress(quiet, 20, minimized=False, clock=lambda: next(clock))
        for event in EVENTS:
            progress.event(event)
        console.print(progress.display())

    screens.check(__file__, "progress", show)


@pytest.mark.parametrize(("minimized", "best"), [(True, 0.25), (False, 0.5)])
def test_the_best_is_by_the_metric(minimized: bool, best: float):
    progress = Progress(PlainConsole(file=io.StringIO()), 20, minimized)
    for event in EVENTS:
        progress.event(event)
    assert progress.best[0] == best
    assert (progress.running, progress.failed) == ({*range(3, 12)}, 1)


def test_events_come_through_the_folder(tmp_path: Path, capfd: pytest.CaptureFixture):
    """Each once and in order, but what an earlier start of the sweep has written."""
    with job.collecting_events() as elsewhere:
        job.report_event(tmp_path, kind="note", text="on another machine")
    assert elsewhere == [{"kind": "note", "text": "on another machine"}]
    job.report_event(tmp_path, kind="note", text="earlier")
    watch = Watch(tmp_path, 2, minimized=False)
    trial = job.Job(tmp_path / "0", [], number=0)
    for _ in range(2):
        job.warning_reporter(trial)("careful")
    job.report_event(tmp_path, kind="ended", trial=0, given="a=1", value=1234.5, took="in 1.0 s")
    watch.close()
    watch.close()
    assert capfd.readouterr().out == "warning: careful\ntrial 0: a=1 -> 1,234 in 1.0 s\n"


@pytest.mark.parametrize(
    ("typed", "sweeper", "trials"),
    [
        (["a=1,2,3", "b=x,y", "c=1"], {}, 6),
        (["a=range(1,5)"], {"params": {"b": "1,2"}}, 8),
        (["a=1"], {}, 1),
        (["a=interval(0,1)"], {"n_trials": 30}, 30),
    ],
)
def test_how_many_trials_there_will_be(typed: list[str], sweeper: dict, trials: int):
    overrides = OverridesParser.create().parse_overrides(typed)
    assert callback.count_trials(overrides, OmegaConf.create(sweeper)) == trials
