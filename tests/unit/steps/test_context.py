"""A step's context travels in one variable, and a step without it runs alone."""

import json

import pytest

from pipeline.core.errors import PipelineError
from pipeline.orchestration import context
from pipeline.provenance.origin import Commit
from pipeline.steps.context import VARIABLE, StepContext


def test_a_step_alone_has_the_defaults(monkeypatch: pytest.MonkeyPatch):
    for value in ("", "{}"):
        monkeypatch.setenv(VARIABLE, value)
        assert StepContext.from_environment() == StepContext()
    monkeypatch.delenv(VARIABLE)
    assert StepContext.from_environment() == StepContext()
    assert StepContext().overrides is None


def test_a_context_comes_back_as_it_was_given(monkeypatch: pytest.MonkeyPatch):
    given = StepContext(run_id="one", dirty=True, overrides=["a='b, {c}'"], diff='1 "file" é')
    monkeypatch.setenv(VARIABLE, given.to_json())
    assert StepContext.from_environment() == given


def test_code_of_an_earlier_version_is_told_what_it_needs_alone():
    assert json.loads(StepContext(based_on="first").to_json()) == {"based_on": "first"}


@pytest.mark.parametrize("text", ["2-ETL", "[1]", '"a"', '{"run": "one"}'])
def test_a_variable_with_something_else_is_refused(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(PipelineError, match="is not the context of a step") as refused:
        StepContext.from_environment()
    assert "unset PIPELINE_STEP" in refused.value.remedy


def test_a_run_goes_on_with_what_it_was_told(monkeypatch: pytest.MonkeyPatch):
    told = StepContext(run_id="old", commit="c" * 40, dirty=True, based_on="first", snapshot="s")
    monkeypatch.setenv(VARIABLE, told.to_json())
    words = ["main.force=true", "split.test_size=0.3", "+provenance.x=1"]
    shipped = context.step_context("new", words, None)
    assert shipped == StepContext(
        run_id="new",
        commit="c" * 40,
        dirty=True,
        based_on="first",
        overrides=["split.test_size=0.3"],
    )
    here = context.step_context("new", [], Commit("d" * 40, dirty=False))
    assert (here.commit, here.dirty, here.based_on) == ("d" * 40, False, "first")
