"""What a step's result depends on, beside the files that it reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cache import compare
from pipeline.cache.compare import CurrentState, differences, digest
from pipeline.core import settings
from pipeline.core.results import Reference
from pipeline.core.tracing import dependencies, observations
from pipeline.core.tracing.dependencies import Evidence

PARAMETERS = {"test_size": 0.2, "input_artifact": Reference("clean_data.csv:v3", "abc")}
LOCK = ["# Python 3.11.7, Linux x86_64", "pandas==3.1.1", "scipy==1.17.1"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one step, which declares what native code reads."""
    step = tmp_path / "3-Split_dataset"
    step.mkdir()
    (step / "MLproject").write_text("name: split\ninputs: [lookup/*.parquet, ../data/all.bin]\n")
    (step / "lookup").mkdir()
    (step / "lookup" / "types.parquet").write_text("1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "all.bin").write_text("1")
    for module in (compare, observations):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv(settings.STATE_DIR, str(tmp_path / "state"))
    return tmp_path


def known(**changed: Any) -> compare.Parts:
    """What is known of the split."""
    given = {"parameters": PARAMETERS, "store": "trackio local pokemon", "remote_environment": {}}
    return compare.key_parts("3-Split_dataset", **{**given, **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"parameters": {**PARAMETERS, "test_size": 0.3}}, "parameter test_size: 0.2 -> 0.3"),
        (
            {"parameters": {**PARAMETERS, "input_artifact": Reference("clean_data.csv:v3", "def")}},
            "input input_artifact: abc -> def",
        ),
        ({"store": "trackio local other"}, "tracker store: trackio local pokemon -> "),
        ({"remote_environment": {"image": "a:2"}}, "backend image: (none) -> a:2"),
    ],
)
def test_settings(root: Path, changed: dict, said: str) -> None:
    (root / "3-Split_dataset" / "conda.yml").write_text("name: split\n")
    lines = [line for line in differences(known(), known(**changed)) if "declared" not in line]
    assert len(lines) == 1
    assert lines[0].startswith(said)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"params": {"C": 1.0}}, {"params": {"C": 1}}, 'params: {"C": 1.0} -> {"C": 1}'),
        ({"stratify": 1}, {"stratify": True}, "stratify: 1 -> true"),
        ({}, {"stratify": None}, "stratify: (none) -> null"),
    ],
)
def test_what_python_takes_for_equal_is_told(before: dict, now: dict, said: str) -> None:
    pair = {"parameter": before}, {"parameter": now}
    assert digest(pair[0]) != digest(pair[1])
    assert differences(*pair) == [f"parameter {said}"]


def test_an_input_counts_by_its_content_not_its_version(root: Path) -> None:
    other = {**PARAMETERS, "input_artifact": Reference("renamed.csv:v9", "abc")}
    assert known() == known(parameters=other)


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.lists(st.integers())))
def test_order_does_not_matter(parameters: dict) -> None:
    turned = dict(reversed(parameters.items()))
    assert digest({"parameter": parameters}) == digest({"parameter": turned})


@pytest.mark.parametrize(
    "file",
    ["MLproject", "lookup/types.parquet", "lookup/new.parquet", "../data/all.bin"],
)
def test_what_the_project_declares_counts(root: Path, file: str) -> None:
    before = known()
    path = root / "3-Split_dataset" / file
    path.write_text(f"{path.read_text() if path.exists() else ''}# more\n")
    (line,) = differences(before, known())
    assert line.startswith("declared ")
    assert Path(file).name in line


def present(variables: Mapping[str, str] | None = None, lock: list[str] = LOCK) -> CurrentState:
    """What a step meets."""
    return CurrentState("key", variables or {}, lambda: lock)


def seen(variables: Mapping[str, str] | None = None, read: tuple[str, ...] = ()) -> Evidence:
    """The evidence of a step that read these variables, with the packages of ``LOCK``."""
    lock = dependencies.keep_lock(LOCK)
    return Evidence({}, lock, dependencies.keyed_digests(variables or {}, read, "key"), "key")


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ([*LOCK, "zlib==1"], "environment zlib: (none) -> 1"),
        (LOCK[:-1], "environment scipy: 1.17.1 -> (none)"),
        ([*LOCK[:-1], "scipy==1.17.2"], "environment scipy: 1.17.1 -> 1.17.2"),
        (["# Python 3.11.8, Linux x86_64", *LOCK[1:]], "environment python: # Python 3.11.7, "),
        ([], "environment packages: (none) -> not installed yet"),
    ],
)
def test_every_package_counts(root: Path, lock: list[str], said: str) -> None:
    found = seen()
    assert present().matches(found)
    assert not present(lock=lock).matches(found)
    assert any(
        line.startswith(said) for line in differences(*present(lock=lock).changed_parts(found))
    )


@pytest.mark.parametrize(
    ("before", "now", "holds"),
    [
        ({"CHOICE": "1"}, {"CHOICE": "1", "OTHER": "2"}, True),
        ({"CHOICE": "1"}, {"CHOICE": "2"}, False),
        ({"CHOICE": "1"}, {}, False),
        ({}, {"CHOICE": ""}, False),
        ({}, {"TZ": "UTC"}, False),
        ({"TZ": "UTC"}, {}, False),
        ({"LC_ALL": "C"}, {"LC_ALL": "de_DE"}, False),
        ({}, {"OMP_NUM_THREADS": "1"}, False),
        ({}, {"MKL_CBWR": "AVX2"}, False),
        ({}, {"CUDA_VISIBLE_DEVICES": ""}, False),
        ({}, {"PYTHONPATH": "/more"}, False),
        ({}, {"WANDB_RUN_GROUP": "prod", "PIPELINE_STEP": "{}", "SHELL": "sh"}, True),
    ],
)
def test_variables(root: Path, before: dict, now: dict, holds: bool) -> None:
    found = seen(before, ("CHOICE", "PIPELINE_STEP"))
    assert present(now).matches(found) is holds
    lines = differences(*present(now).changed_parts(found))
    assert (not lines) is holds
    assert all(line.startswith("variable ") for line in lines)


def test_no_value_of_a_variable_is_kept(root: Path) -> None:
    found = seen({"CHOICE": "my secret"}, ("CHOICE",))
    assert "secret" not in str(found)
    assert "secret" not in str(differences(*present({"CHOICE": "a secret"}).changed_parts(found)))
