"""What counts as a change of a step, and what does not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cache import fingerprint
from pipeline.cache.fingerprint import Parts
from pipeline.cache.finished import Cache
from pipeline.core.results import Reference, StepResult
from pipeline.steps import folders
from pipeline.steps.folders import library
from tests.support.paths import ROOT

PARAMETERS = {"test_size": 0.2, "input_artifact": Reference("clean_data.csv:v3", "abc")}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the steps and the library, to change things in."""
    for folder in ("pipeline", "2-ETL", "3-Split_dataset"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for module in (fingerprint, folders):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def parts(**changed: object) -> Parts:
    """The split step's parts."""
    given = {"env_manager": "uv", "store": "trackio local pokemon", "parameters": PARAMETERS}
    library.cache_clear()
    return fingerprint.parts("3-Split_dataset", **{**given, **changed})


def append(file: Path) -> None:
    file.write_text(file.read_text() + "\n# a comment\n")


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("3-Split_dataset/script.py", True),
        ("3-Split_dataset/MLproject", True),
        ("3-Split_dataset/conda.yml", True),
        ("pipeline/steps/shell.py", True),
        ("pipeline/science/tables.py", True),
        ("pipeline/tracking/trackio.py", True),
        ("2-ETL/script.py", False),
        ("pipeline/orchestration/run.py", False),
        ("pipeline/science/evaluation.py", False),
        ("pipeline/config/schema.py", False),
    ],
)
def test_files(tree: Path, file: str, counts: bool):
    before = parts()
    append(tree / file)
    after = parts()
    assert (fingerprint.fingerprint(before) != fingerprint.fingerprint(after)) is counts
    assert any(file in line for line in fingerprint.differences(before, after)) is counts


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("rules/clean.py", True),
        ("lookup/of/types.csv", True),
        ("rules/__pycache__/clean.cpython-311.pyc", False),
        ("rules/.clean.py.swp", False),
        (".venv/lib/clean.py", False),
    ],
)
def test_files_in_folders_below_the_step(tree: Path, file: str, counts: bool):
    path = tree / "3-Split_dataset" / file
    path.parent.mkdir(parents=True)
    path.write_text("# one\n")
    before = parts()
    append(path)
    lines = fingerprint.differences(before, parts())
    assert [line.partition(": ")[0] for line in lines] == (
        [f"code 3-Split_dataset/{file}"] if counts else []
    )


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("pipeline/science/tables.py", "from .. import wanted"),
        ("pipeline/science/tables.py", "from ..wanted import x"),
        ("pipeline/tracking/trackio.py", "from .. import wanted"),
        ("pipeline/tracking/trackio.py", "from ..wanted import x"),
        ("3-Split_dataset/rules/clean.py", "from pipeline import wanted"),
    ],
)
def test_library_files_that_are_imported_in_another_way(tree: Path, importer: str, statement: str):
    (tree / "pipeline/wanted.py").write_text("x = 1\n")
    assert "pipeline/wanted.py" not in parts()["code"]
    folders._imports.cache_clear()  # as in a run of its own
    path = tree / importer
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{path.read_text() if path.exists() else ''}\n{statement}\n")
    assert "pipeline/wanted.py" in parts()["code"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"parameters": {**PARAMETERS, "test_size": 0.3}}, "parameter test_size: 0.2 -> 0.3"),
        (
            {"parameters": {**PARAMETERS, "input_artifact": Reference("clean_data.csv:v3", "def")}},
            "input input_artifact: abc -> def",
        ),
        ({"store": "trackio local other"}, "tracker store: trackio local pokemon -> "),
    ],
)
def test_settings(tree: Path, changed: dict, said: str):
    lines = fingerprint.differences(parts(), parts(**changed))
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
def test_what_python_takes_for_equal_is_told(before: dict, now: dict, said: str):
    pair = {"parameter": before}, {"parameter": now}
    assert fingerprint.fingerprint(pair[0]) != fingerprint.fingerprint(pair[1])
    assert fingerprint.differences(*pair) == [f"parameter {said}"]


def test_an_input_counts_by_its_content_not_its_version(tree: Path):
    other = {**PARAMETERS, "input_artifact": Reference("renamed.csv:v9", "abc")}
    assert parts() == parts(parameters=other)


def test_a_pin_is_named_with_both_versions(tree: Path):
    before = parts()
    file = tree / "3-Split_dataset/conda.yml"
    file.write_text(file.read_text().replace("pandas==", "pandas==9."))
    lines = fingerprint.differences(before, parts())
    assert any(line.startswith("environment pandas: ") and "-> 9." in line for line in lines)


def test_the_local_environment_counts_by_what_is_installed(tree: Path):
    """Where the pins are installed, it makes no difference who built the environment."""
    assert parts(env_manager="local") == parts(env_manager="uv") == parts(env_manager="conda")


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.lists(st.integers())))
def test_order_does_not_matter(parameters: dict):
    turned = dict(reversed(parameters.items()))
    one, other = ({"parameter": p} for p in (parameters, turned))
    assert fingerprint.fingerprint(one) == fingerprint.fingerprint(other)


@pytest.fixture
def finished() -> Callable[[Cache, str, dict], StepResult]:
    def put(cache: Cache, print_: str, parameters: dict) -> StepResult:
        result = StepResult("2-ETL", "ran", fingerprint=print_, pipeline_run=print_)
        cache.put(result, {"parameter": parameters, "tracker": {"store": "here"}})
        return result

    return put


def test_the_nearest_earlier_run_is_compared(tmp_path: Path, finished: Callable):
    cache = Cache(tmp_path)
    finished(cache, "one", {"a": 1, "b": 1})
    finished(cache, "two", {"a": 2, "b": 3})
    now = {"parameter": {"a": 2, "b": 2}, "tracker": {"store": "here"}}
    assert cache.why("2-ETL", now) == ["parameter b: 3 -> 2"]
    assert cache.why("3-Split_dataset", now) == ["it has not been run before"]


def test_half_written_records_are_not_there(tmp_path: Path, finished: Callable):
    cache = Cache(tmp_path)
    finished(cache, "one", {})
    (tmp_path / "steps/2-ETL/two.json.77.1.partial").write_text('{"parts": ')
    assert cache.get("2-ETL", "two") is None
    assert cache.latest("2-ETL", "here").fingerprint == "one"
    assert cache.latest("2-ETL", "elsewhere") is None
