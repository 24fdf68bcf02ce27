"""hydra_options reach Hydra whole."""

import json
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.overrides import overrides, readable, split_options, with_defaults
from pipeline.core.errors import PipelineError


def values(words: list[str]) -> dict[str, object]:
    """What Hydra makes of overrides."""
    parsed = OverridesParser.create().parse_overrides(words)
    return {override.key_or_group: plain(override.value()) for override in parsed}


@pytest.mark.parametrize(
    ("typed", "arrives"),
    [
        ("main.experiment_name=prod split.test_size=0.3",
         {"main.experiment_name": "prod", "split.test_size": 0.3}),
        ("a.b='x, y = z'  c=1", {"a.b": "x, y = z", "c": 1}),
        ('a.b="two words"', {"a.b": "two words"}),
        ("'a.b=two words'", {"a.b": "two words"}),
        ("a.b='it\\\\'s'", {"a.b": "it's"}),
        ('a.b="say \\\\"hi\\\\""', {"a.b": 'say "hi"'}),
        ("a=[1, 2,x] b=[]", {"a": [1, 2, "x"], "b": []}),
        ("a='[1, 2]'", {"a": [1, 2]}),
        ('a={"type 2": "null", "n": [1, {"k": "a=b, c"}]}',
         {"a": {"type 2": "null", "n": [1, {"k": "a=b, c"}]}}),
        ("'a={x: y, z: 1}'", {"a": {"x": "y", "z": 1}}),
        ("a=b=c", {"a": "b=c"}),
        ("a=https://example.com/x.csv?y=1&z=2", {"a": "https://example.com/x.csv?y=1&z=2"}),
        ("a=${main.b} c=null", {"a": "${main.b}", "c": None}),
        ("a=x&y;#z", {"a": "x&y;#z"}),
        ("", {}),
        ("   ", {}),
    ],
)  # fmt: skip
def test_values_arrive_as_typed(typed: str, arrives: dict[str, object]):
    typed = typed.replace("\\\\", "\\")
    assert values(split_options(typed)) == arrives


def test_options_of_hydra_itself_pass():
    assert split_options("-m model=a,b 'split.test_size=0.2,0.3'") == [
        "-m",
        "model=a,b",
        "split.test_size=0.2,0.3",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.from_regex(r"[a-z][a-z0-9 _.:{-]{0,8}[a-z]", fullmatch=True), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), JSON, max_size=3) | st.lists(JSON)
)
def test_json_arrives_as_typed(value: object):
    word = readable(f"key={json.dumps(value)}")
    parsed = OverridesParser.create().parse_overrides([word])[0].value()
    assert plain(parsed) == value


def plain(value: object) -> object:
    """Hydra's parsed value with its quoted strings as strings."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.text if hasattr(value, "text") else value


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\\\r\n\0")), max_size=4))
def test_any_text_survives_hydras_and_the_shells_quotes(texts: list[str]):
    """A value quoted for Hydra, and the word then quoted for a shell, is the value again."""
    words = []
    for number, text in enumerate(texts):
        escaped = text.replace("'", "\\'")
        words.append(f"key.k{number}='{escaped}'")
    line = " ".join(shlex.quote(word) for word in words)
    assert values(split_options(line)) == values(words)


@pytest.mark.parametrize("text", ["a='open", "a=[1, 2", 'a={"b": 1'])
def test_what_is_not_closed_is_named(text: str):
    with pytest.raises(PipelineError, match="open quote or bracket"):
        split_options(f"x=1 {text}")


def test_only_the_option_is_expanded():
    assert overrides(["a=1", "--hydra_options=b='x y' c=2", "d=3"]) == [
        "a=1",
        "b=x y",
        "c=2",
        "d=3",
    ]


def test_a_path_to_the_data_is_made_whole():
    whole = f"data.file_url={Path('my data.csv').absolute().as_uri()}"
    assert overrides(["data.file_url=my data.csv", "data.sha256=my"]) == [whole, "data.sha256=my"]
    assert overrides(["--hydra_options=data.file_url='my data.csv'"]) == [whole]
    escaped = "data.file_url=file\\:///a.csv"  # as Hydra writes a trial's
    assert overrides([escaped]) == [escaped]
    assert overrides(["data.file_url=a.csv,b.csv"]) == ["data.file_url=a.csv,b.csv"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["main.project_name='theirs'", "main.experiment_name='a b'"]),
        (["-m", "a=1"], ["-m", "main.project_name='theirs'", "main.experiment_name='a b'", "a=1"]),
        (["main.project_name=mine"], ["main.experiment_name='a b'", "main.project_name=mine"]),
        (["++main.project_name=x", "main.experiment_name=y"],
         ["++main.project_name=x", "main.experiment_name=y"]),
    ],
)  # fmt: skip
def test_wandbs_variables_are_defaults(words: list[str], expected: list[str]):
    """An override goes over them, and they stand among the overrides."""
    environment = {"WANDB_PROJECT": "theirs", "WANDB_RUN_GROUP": "a b", "WANDB_MODE": "online"}
    assert with_defaults(words, environment) == expected
    assert with_defaults(words, {"WANDB_PROJECT": ""}) == words
