"""What a sweep tells its trials arrives as it was, and a trial is known until the next one."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.config import job
from pipeline.config.job import SWEEP_VARIABLE, Job, SweepContext
from pipeline.config.overrides import quoted

SWEEP = SweepContext("20260101-000000-abcdef", "c" * 32, [0, 12])


def test_a_sweep_is_told_through_an_override():
    """Hydra's grammar has a meaning for each sign of JSON."""
    word = f"+hydra.job.env_set.{SWEEP_VARIABLE}={quoted(SWEEP.to_json())}"
    value = OverridesParser.create().parse_override(word).value()
    assert SweepContext.of({SWEEP_VARIABLE: value}) == SWEEP
    assert SweepContext.of({}) is None


def test_a_trial_is_known_until_the_next_one_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SWEEP_VARIABLE, SWEEP.to_json())
    trial = job.begin_trial(Job(Path("12"), ["a=1"], 12))
    assert (trial.sweep, trial.parent, trial.done) == (SWEEP.id, SWEEP.mlflow_run, True)
    trial.mlflow_run = "r" * 32
    assert job.current_trial(SWEEP.id, 12) is trial
    assert job.current_trial(SWEEP.id, 13) is None
    assert job.current_trial("another", 12) is None
    assert not job.begin_trial(Job(Path("13"), [], 13)).done
    assert job.current_trial(SWEEP.id, 12) is None
    assert job.begin_trial(Job(Path("single"), [])) is None
    assert job.current_trial(SWEEP.id, 13) is None


def test_a_job_outside_of_a_sweep_is_no_trial(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(SWEEP_VARIABLE, raising=False)
    assert job.begin_trial(Job(Path("0"), [], 0)) is None
