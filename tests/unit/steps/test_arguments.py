"""The types of a step's arguments."""

import argparse
from pathlib import Path

import pytest

from pipeline.steps import (
    json_dict,
    json_list,
    json_names,
    json_or_text,
    json_value,
    optional,
)


def test_json_arguments(tmp_path: Path):
    path = tmp_path / "long.json"
    path.write_text('["a", 1]')
    assert json_list(f"@{path}") == json_list('["a", 1]') == ["a", 1]
    assert json_dict('{"a": null}') == {"a": None}
    assert [json_list(""), json_dict(" "), json_value("")] == [[], {}, None]
    assert [json_list("null"), json_dict("null"), json_value("0")] == [[], {}, 0]
    assert [optional(""), optional("x")] == [None, "x"]
    assert [json_or_text("price"), json_or_text('["a", "b"]')] == ["price", ["a", "b"]]
    assert [json_names(""), json_names('[["a", "b"], "c"]')] == [None, ["a", "b", "c"]]


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (json_list, '{"a": 1}', "is not a JSON list"),
        (json_dict, "[1]", "is not a JSON dict"),
        (json_dict, "false", "is not a JSON dict"),
        (json_list, "[1", "is not JSON"),
    ],
)
def test_other_json_is_refused(kind, text: str, told: str):
    with pytest.raises(argparse.ArgumentTypeError, match=told):
        kind(text)
