"""What a new step may be called, and how main.py names what it reads."""

import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.settings import ROOT
from pipeline.steps import new_step


@pytest.mark.parametrize(
    ("name", "after", "told"),
    [
        ("Explain", "4", "'Explain' can't name a step"),
        ("6-Ex plain", "4", "'6-Ex plain' can't name a step"),
        ("4-Explain", "4", "4-Explain has the number of 4-Training_model"),
        ("../6-Explain", "4", "holds no pipeline"),
        ("5-Report", "4", "5-Report or its test"),
        ("0-Explain", "4", "0-Explain would come before 4-Training_model"),
        ("6-Model", "4", "the section 'model' of config.yaml, which is taken or invalid"),
        ("6-Hydra", "4", "the section 'hydra' of config.yaml"),
        ("6-Explain", "9", "--after 9 names no step"),
    ],
)
def test_names_that_cannot_be_are_told(name: str, after: str, told: str):
    before = sorted(path.name for path in ROOT.glob("*-*"))
    with pytest.raises(PipelineError, match=told):
        list(new_step.begin(name, after))
    assert sorted(path.name for path in ROOT.glob("*-*")) == before


def test_an_artifact_is_named_as_main_does():
    assert new_step._artifact("2-ETL") == "clean[etl.artifact_name]"
    assert new_step._artifact("3-Split_dataset") == "parts[split.train_artifact_name]"
    assert new_step._artifact("5-Report") == "report_step[config.report.artifact_name]"
