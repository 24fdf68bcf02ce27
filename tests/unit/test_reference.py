"""The pages of the docs site that are generated: settings, commands and architecture."""

import re

from pipeline.__main__ import cli
from pipeline.config.schema import all_keys
from pipeline.core.settings import ROOT
from tools import architecture, reference


def test_settings_are_read_with_their_defaults_and_comments():
    text = "a: # of all\n  b: '#1' # first\n  c:\n    d: [x, y]\n# note\ne: null # last\n"
    assert [*reference.settings(text)] == [
        reference.Setting("a", "", "of all"),
        reference.Setting("a.b", "'#1'", "first"),
        reference.Setting("a.c", "", ""),
        reference.Setting("a.c.d", "[x, y]", ""),
        reference.Setting("e", "null", "last"),
    ]


def test_the_reference_has_each_setting_and_what_it_means():
    rows = dict(re.findall(r"^\| `([\w.]+)` \| .* \| (.*) \|$", reference.settings_page(), re.M))
    for key in all_keys():
        assert rows.get(key), key


def test_the_reference_has_each_choice_of_a_model_and_a_data_set():
    page = reference.settings_page()
    for group in ("model", "data"):
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"| `{group}={path.stem}` | " in page


def test_the_reference_has_each_command_with_its_options():
    page = reference.commands_page()
    for name, command in cli.commands.items():
        assert command.hidden or f"\n### {name}\n" in page
    assert "| `--best N` | " in page
    assert "\n### gen_dvc\n" in page
    assert "| `make run` |" in page


def test_the_architecture_has_the_contracts_and_the_modules():
    page = architecture.page()
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", page, re.MULTILINE))
    assert rows["core"] == ""
    assert rows["science"] == "core"
    assert rows["cache"] == "core, sources"
    assert rows["datasets"] == "core, science, sources"
    assert "| `data.tables` | " in page
