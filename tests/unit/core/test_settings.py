"""What may be a path, and which path an address names."""

from pathlib import Path

import pytest

from pipeline.core import settings
from pipeline.core.data import addresses
from pipeline.core.errors import PipelineError


@pytest.mark.parametrize("name", ["a #1", "what?", "100%", "a ${HOME}"])
def test_paths_that_a_library_can_not_take(name: str) -> None:
    with pytest.raises(PipelineError, match="the repository has") as caught:
        settings.check_path("the repository", Path("/home", name))
    assert f"can't take: /home/{name}" in caught.value.what


@pytest.mark.parametrize("name", ["it's", 'a "quoted" one', "a;b&c", "ünï $x {y}", "a b"])
def test_paths_that_all_take(name: str) -> None:
    settings.check_path("the repository", Path("/home", name))


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("houses.csv", "file:///here/houses.csv"),
        ("../a b/houses #1.csv", "file:///here/../a%20b/houses%20%231.csv"),
        ("/data/houses.csv", "file:///data/houses.csv"),
        ("~/houses.csv", "file:///home/me/houses.csv"),
        ("file:houses.csv", "file:///here/houses.csv"),
        ("2024:01.csv", "file:///here/2024%3A01.csv"),
        ("file:///data/houses.csv", "file:///data/houses.csv"),
        ("https://example.com/houses.csv", "https://example.com/houses.csv"),
        ("s3://bucket/houses.csv", "s3://bucket/houses.csv"),
        (" https://me:secret@example.com/x.csv", " https://me:secret@example.com/x.csv"),
        ("", ""),
    ],
)
def test_a_path_is_a_file_address(
    given: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    assert addresses.file_address(given) == address.replace("/here", str(tmp_path))


@pytest.mark.parametrize("text", ["pokemon-legendary", "a.b_c", "x" * 100])
def test_a_text_that_is_a_name_stays(text: str) -> None:
    assert settings.safe_name(text) == text


def test_no_two_texts_have_the_same_name() -> None:
    texts = [
        "a b",
        "a  b",
        "a/b",
        "a-b",
        "a\tb",
        "ä",
        "ö",
        "..",
        ".",
        "-",
        "x" * 101,
        "x" * 102,
        "model",
    ]
    names = [settings.safe_name(text, "model") for text in texts]
    assert len({*names}) == len(texts)
    assert names[texts.index("model")] != "model"  # it is taken
    for name in names:
        settings.check_name("an artifact", name)


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("sqlite:///taxi.db", "sqlite:////here/taxi.db"),
        ("sqlite:///a/taxi.db?timeout=9", "sqlite:////here/a/taxi.db?timeout=9"),
        ("sqlite:////elsewhere/taxi.db", "sqlite:////elsewhere/taxi.db"),
        ("./mlruns", "/here/mlruns"),
        ("file:mlruns", "file:///here/mlruns"),
        ("file:///elsewhere", "file:///elsewhere"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("databricks", "databricks"),
    ],
)
def test_a_store_is_named_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, whole: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.absolute_store(given) == whole.replace("/here", str(tmp_path))
