"""What is observed of files and folders, and of code without its positions."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.tracing import observations

SOURCE = '''
"""A module."""

def clean(rows, by={1, 2}, *, more=(1.5, -0.0)):
    """Clean rows."""
    class Row: pass
    try:
        return [row for row in rows if row in by]
    except ValueError:
        return lambda: (rows, ..., 2j, b"x")
'''


def code(source: str) -> str:
    return observations.code(source.encode(), Path("a.py"))["code"]


@given(st.lists(st.sampled_from(SOURCE.splitlines()), unique=True), st.integers(0, 3))
def test_comments_and_blank_lines_do_not_count(commented: list[str], blank: int) -> None:
    lines = []
    for line in SOURCE.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += [""] * blank + [f"{indent}# why"] * (line in commented)
        lines += [f"{line}  # because" if line in commented and '"""' not in line else line]
    assert code("\n".join(lines)) == code(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{1, 2}", "{1, 3}"),
        ("-0.0", "0.0"),
        ("1.5", "1"),
        ("2j", "2"),
        ('b"x"', '"x"'),
        ("row in by", "row not in by"),
        ("ValueError", "KeyError"),
        ("class Row", "class Other"),
        ("more=", "other="),
        ("*, ", ""),
        ("Clean rows", "Clean all rows"),
        ("(rows, ...", "(by, ..."),
    ],
)
def test_code_that_does_something_else_counts(old: str, new: str) -> None:
    assert code(SOURCE.replace(old, new)) != code(SOURCE)


def test_what_is_no_python_has_no_code() -> None:
    assert code("def") == ""
    assert code("a\0") == ""


def test_a_search_finds_what_an_import_would(tmp_path: Path) -> None:
    names = ["a.py", "b.txt", "c.pyc", "d.abi3.so", "e.py.bak", "numpy.py", "z.py"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "pandas").mkdir()
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "__init__.py").touch()
    (tmp_path / "__pycache__").mkdir()
    wanted = ["a", "b", "c", "d", "e", "pandas", "rules", "__pycache__"]
    found = ["a.py", "c.pyc", "d.abi3.so", "pandas/", "rules/__init__.py"]
    assert observations.search(tmp_path, wanted) == found
    assert "numpy.py" in observations.search(tmp_path, [observations.ANY])
    assert observations.search(tmp_path / "absent", wanted) == []


@pytest.mark.parametrize("kind", observations.KINDS)
def test_what_is_gone_has_changed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.py"
    path.mkdir() if kind in ("folder", "search") else path.write_text("A = 1\n")
    if kind == "link":
        path.unlink()
        path.symlink_to("b.py")
    if kind == "search":
        (path / "b.py").touch()
    before = {
        "code": observations.code(b"A = 1\n", path),
        "file": observations.file(path),
        "folder": observations.folder(observations.names(path)),
        "search": {"names": "b c", "found": ["b.py"]},
        "kind": observations.kind(path),
        "link": observations.link(path),
    }[kind]
    proof = {kind: {str(path): before}}
    assert observations.changed(proof) == []
    if kind == "search":
        (path / "b.py").unlink()
    path.rmdir() if path.is_dir() else path.unlink()
    assert observations.changed(proof) == [(kind, str(path))]
