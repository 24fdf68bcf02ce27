"""Environment variables are set, given defaults and restored."""

import os

import pytest

from pipeline.core import variables


def test_variables_are_set_and_removed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONE", "1")
    monkeypatch.setenv("TWO", "2")
    variables.set_variables({"ONE": "one", "TWO": None, "THREE": None})
    assert os.environ["ONE"] == "one"
    assert "TWO" not in os.environ
    assert "THREE" not in os.environ


def test_a_default_is_only_for_what_is_not_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONE", "")
    monkeypatch.setenv("TWO", "2")
    monkeypatch.delenv("TWO")
    variables.set_defaults({"ONE": "one", "TWO": "two"})
    assert (os.environ["ONE"], os.environ["TWO"]) == ("", "two")


def test_all_variables_are_replaced():
    before = dict(os.environ)
    variables.replace_all({"ONE": "1"})
    try:
        assert dict(os.environ) == {"ONE": "1"}
    finally:
        variables.replace_all(before)
    assert dict(os.environ) == before


def fail_within(values: dict[str, str | None]) -> None:
    """Look at the variables in a block, and fail in it."""
    with variables.temporarily(values):
        assert "ONE" not in os.environ
        assert os.environ["TWO"] == "two"
        raise OSError("full")


def test_variables_of_a_block_are_restored_after_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONE", "1")
    monkeypatch.delenv("TWO", raising=False)
    with pytest.raises(OSError, match="full"):
        fail_within({"ONE": None, "TWO": "two"})
    assert os.environ["ONE"] == "1"
    assert "TWO" not in os.environ
