"""Finished steps are found again where their evidence holds, one run at a time."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cache.compare import CurrentState, Parts, digest
from pipeline.cache.finished import Cache, Record
from pipeline.core.results import StepResult
from pipeline.core.tracing import observations
from pipeline.core.tracing.dependencies import Evidence


def parts(**parameters: object) -> Parts:
    """What is known of a step."""
    return {"parameter": parameters, "tracker": {"store": "here"}}


def present(**parameters: object) -> CurrentState:
    """What a step with these parameters meets."""
    return CurrentState(digest(parts(**parameters)), {}, list)


def put(cache: Cache, name: str, evidence: Evidence | None = None, **parameters: object) -> None:
    """Remember a finished step."""
    result = StepResult("2-ETL", "ran", fingerprint=name, pipeline_run=name)
    key = present(**parameters).key
    cache.put(Record(result, parts(**parameters), evidence or Evidence({})), key)


def of(path: Path) -> Evidence:
    """The evidence of having read a file as it is now."""
    return Evidence({observations.FILE: {str(path): observations.file(path)}})


def test_a_result_is_found_where_its_evidence_holds(tmp_path: Path) -> None:
    """Going back to what was there before finds what was made of it."""
    cache, file = Cache(tmp_path / "state"), tmp_path / "one.txt"
    for text in ("first", "second"):
        file.write_text(text)
        put(cache, text, of(file), a=1)
    for text in ("first", "second", "first"):
        file.write_text(text)
        assert cache.get("2-ETL", present(a=1)).fingerprint == text
    file.write_text("third")
    assert cache.get("2-ETL", present(a=1)) is None
    assert cache.get("2-ETL", present(a=2)) is None
    assert cache.get("3-Split_dataset", present(a=1)) is None


def test_the_nearest_earlier_run_is_compared(tmp_path: Path) -> None:
    cache, file = Cache(tmp_path / "state"), tmp_path / "one.txt"
    file.write_text("1")
    put(cache, "one", of(file), a=1, b=1)
    put(cache, "two", of(file), a=2, b=3)
    assert cache.why("2-ETL", parts(a=2, b=2), present()) == ["parameter b: 3 -> 2"]
    file.unlink()
    (first, second) = cache.why("2-ETL", parts(a=2, b=2), present())
    assert first == "parameter b: 3 -> 2"
    assert second.startswith(f"file {file}: ")
    assert second.endswith("-> (none)")
    assert cache.why("3-Split_dataset", parts(), present()) == ["it has not been run before"]


@pytest.mark.parametrize("text", ["", '{"parts": ', "[]", '{"result": {"more": 1}}', "null", "\0"])
def test_a_damaged_record_is_not_used(tmp_path: Path, text: str) -> None:
    cache = Cache(tmp_path)
    put(cache, "one")
    (path,) = tmp_path.glob("finished/2-ETL/*/one.json")
    path.with_name("two.json").write_text(text)
    os.utime(path, (1, 1))  # the other one is newer
    with pytest.warns(UserWarning, match="is damaged"):
        assert cache.get("2-ETL", present()).fingerprint == "one"
    with pytest.warns(UserWarning, match=r"two\.json is damaged"):
        assert cache.latest("2-ETL", "here").fingerprint == "one"
    path.unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        assert cache.get("2-ETL", present()) is None


RESULT = {"step": "2-ETL", "status": "ran", "fingerprint": "two"}


@pytest.mark.parametrize(
    "changes", [{"outputs": 7}, {"outputs": [{"name": "a"}]}, {"metrics": []}, {"sources": [1]}]
)
def test_a_record_of_another_form_is_not_used(tmp_path: Path, changes: dict) -> None:
    cache = Cache(tmp_path)
    put(cache, "one")
    (path,) = tmp_path.glob("finished/2-ETL/*/one.json")
    told = {"result": RESULT | changes, "parts": parts(), "evidence": {"proof": {}}}
    path.write_text(json.dumps(told))
    with pytest.warns(UserWarning, match="is damaged"):
        assert cache.get("2-ETL", present()) is None


def test_what_is_no_file_is_no_record(tmp_path: Path) -> None:
    """It stays where it is, and the step is run each time."""
    cache = Cache(tmp_path)
    put(cache, "one")
    (path,) = tmp_path.glob("finished/2-ETL/*/one.json")
    path.unlink()
    path.mkdir()
    for _ in range(2):
        with pytest.warns(UserWarning, match="is damaged"):
            assert cache.get("2-ETL", present()) is None
        with pytest.warns(UserWarning, match="is a folder"):
            put(cache, "one")
    path.rmdir()
    path.symlink_to(path.name)  # a loop
    with pytest.warns(UserWarning, match="is damaged"):
        assert cache.get("2-ETL", present()) is None


def test_half_written_records_are_not_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    put(cache, "one")
    (path,) = tmp_path.glob("finished/2-ETL/*/one.json")
    path.with_name("two.json.77.1.partial").write_text('{"parts": ')
    assert cache.latest("2-ETL", "here").fingerprint == "one"
    assert cache.latest("2-ETL", "elsewhere") is None


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(StepResult("2-ETL", "ran", 1.5), parts(a=1), Evidence({"file": {"a": ""}}))
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_step_is_locked_by_the_lock_that_was_given(tmp_path: Path) -> None:
    held: list[Path] = []

    @contextlib.contextmanager
    def lock(path: Path) -> Iterator[None]:
        held.append(path)
        yield
        held.remove(path)

    cache = Cache(tmp_path, lock)
    with cache.lock("2-ETL", "one"), cache.lock("2-ETL", "two"):
        assert [path.stem for path in held] == ["one", "two"]
        assert {path.parent.name for path in held} == {"2-ETL"}
    assert not held


def test_others_on_this_machine_see_that_a_step_is_under_way(tmp_path: Path) -> None:
    cache, other = Cache(tmp_path), Cache(tmp_path)
    with cache.lock("2-ETL", "one"):
        assert other.is_running("2-ETL", "one")
        assert not other.is_running("2-ETL", "two")
    assert not other.is_running("2-ETL", "one")
