"""A step's parameters are the same in its MLproject, in its script and in main.py."""

import argparse

import pytest
import yaml

from pipeline.steps.folders import step_folders
from tests.support.paths import ROOT
from tests.support.steps import load_step, main_calls


@pytest.mark.parametrize("step", step_folders())
def test_parameters_and_their_defaults_agree(step: str):
    entry = yaml.safe_load((ROOT / step / "MLproject").read_text())["entry_points"]["main"]
    declared = {key: value.get("default") for key, value in entry["parameters"].items()}
    assert {value["type"] for value in entry["parameters"].values()} == {"string"}
    words = entry["command"].split()
    assert words == ["python", "script.py", *(f"--{key}={{{key}}}" for key in declared)]

    parser = load_step(step).arguments()
    actions = [a for a in parser._actions if not isinstance(a, argparse._HelpAction)]
    options = {a.option_strings[0].removeprefix("--"): a for a in actions}
    assert list(options) == list(declared)
    for key, action in options.items():
        assert action.required == (declared[key] is None), key
        if not action.required:  # the same value, whether given as text or left out
            as_text = (action.type or str)(declared[key])
            left_out = action.default
            if isinstance(left_out, str):
                left_out = (action.type or str)(left_out)
            assert as_text == left_out, key

    assert set(main_calls()[step].parameters) == set(declared)
