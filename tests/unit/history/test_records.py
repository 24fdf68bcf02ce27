"""A run's summary is read as a run writes it; with anything else in it, it is damaged."""

import json
from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.history.records import parse_summary

ARTIFACT = {"name": "a.csv", "version": "v0", "digest": "d", "type": "raw_data"}
SUMMARY = {
    "run_id": "one", "status": "finished", "started": "2026-01-01T00:00:00+00:00",
    "developer": "Ada", "project": "p", "experiment": "e", "tracker": "trackio",
    "git_commit": None, "git_dirty": None, "mlflow_run": None, "based_on": None, "snapshot": None,
    "config": {"split": {"test_artifact_name": "a.csv"}}, "metrics": {"f1": 0.5, "r2": None},
    "steps": {"1-Get": {"step": "1-Get", "status": "ran", "seconds": 1, "outputs": [ARTIFACT]}},
}  # fmt: skip


def test_a_summary_is_read():
    run = parse_summary(json.dumps(SUMMARY), "here")
    assert (run.id, run.test_digest, run.metrics["f1"]) == ("one", "d", 0.5)


OTHER: list[Any] = [{"a": 1}, ["a"], 7.5]
MAY_BE = {("config", "split"): dict, ("metrics", "f1"): float, ("steps", "1-Get", "warnings"): list}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (place, value)
        for place in (
            *((key,) for key in SUMMARY if key not in ("steps", "config", "metrics", "snapshot")),
            *MAY_BE,
            ("steps", "1-Get"),
            *(("steps", "1-Get", key) for key in ("step", "status", "inputs", "outputs")),
        )
        for value in OTHER
        if not isinstance(value, MAY_BE.get(place, ()))
    ],
)
def test_another_type_of_value_is_damage(place: tuple[str, ...], value: Any):
    told = json.loads(json.dumps(SUMMARY))
    within = told
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    with pytest.raises(PipelineError, match="here"):
        parse_summary(json.dumps(told), "here")
