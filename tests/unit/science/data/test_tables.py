"""Reading somebody's CSV, and reading and writing our own."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.science.data.tables import read_cells, read_raw, read_table, snake_case, write_table

# Text that can't be taken for a number or a truth value, and the words that pandas takes for gaps
words = st.text("xyzé ,;\"'\n\r\t#", min_size=1, max_size=6).map(lambda text: f"w{text}")
words |= st.sampled_from(["None", "NA", "N/A", "null", "NULL", "NaN", "nan", "n/a", "-", "#N/A"])
floats = st.floats(allow_nan=False, allow_infinity=False)


def raw(folder: Path, data: bytes | str, **form) -> pd.DataFrame:
    """The bytes as :func:`read_raw` reads them from a file."""
    path = folder / "raw.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_raw(path, **form)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Sp. Atk", "sp_atk"),
        ("#", "number"),
        (" # ", "number"),
        ("%", "percent"),
        ("camelCase", "camel_case"),
        ("petal length (cm)", "petal_length_cm"),
        ("Type 1", "type_1"),
        ("__a--b__", "a_b"),
        ("Größe", "größe"),
        ("", "column"),
        ("?!", "column"),
        ("line\nbreak", "line_break"),
    ],
)
def test_titles_become_names(title: str, name: str) -> None:
    assert snake_case(title) == name


@given(st.text(max_size=12))
def test_a_name_stays_as_it_is(title: str) -> None:
    name = snake_case(title)
    assert snake_case(name) == name
    assert name
    assert name == name.strip("_ ")


@given(st.lists(st.tuples(words, floats, st.integers(-(2**63), 2**63 - 1), st.booleans())))
def test_a_table_comes_back_as_it_was_written(rows: list[tuple]) -> None:
    rows.append(("w", 0.5, 1, True))
    table = pd.DataFrame(rows, columns=["word", "x", "n", "truth"])
    with TemporaryDirectory() as folder:
        path = write_table(table, Path(folder, "table.csv"))
        pd.testing.assert_frame_equal(read_table(path), table, check_exact=True)
        again = write_table(read_table(path), Path(folder, "again.csv"))
        assert again.read_bytes() == path.read_bytes()


@given(st.lists(st.tuples(words | st.none(), st.integers(0, 9).map("00{}".format) | st.none())))
def test_cells_are_not_changed_by_reading_and_writing(rows: list[tuple]) -> None:
    table = pd.DataFrame([*rows, ("w", "007")], columns=["word", "code"])
    with TemporaryDirectory() as folder:
        path = write_table(table, Path(folder, "table.csv"))
        cells = read_cells(path)
        assert cells["code"].tolist() == table["code"].fillna("").tolist()
        again = write_table(cells, Path(folder, "again.csv"))
        assert read_cells(again).equals(cells)


def test_text_columns_stay_text(tmp_path) -> None:
    path = write_table(pd.DataFrame({"code": ["007", "08"], "n": [1, 2]}), tmp_path / "t.csv")
    assert read_table(path, text_columns=["code"])["code"].tolist() == ["007", "08"]
    data = "Zip Code,n\n007,7\n,\n"
    table = raw(tmp_path, data, text_columns=["zip_code"])
    assert table["Zip Code"].tolist() == ["007", pd.NA]
    assert table["n"].tolist() == [7, pd.NA]


@pytest.mark.parametrize(
    ("data", "form"),
    [
        ("a,b\n1,é\n", {}),
        ("\ufeffa,b\n1,é\n", {}),
        ("\ufeffa,b\n1,é\n", {"encoding": "utf-8"}),
        ("a,b\r\n1,é\r\n", {}),
        ("a,b\r1,é\r", {}),
        ('"a","b"\n"1","é"', {}),
        ("a, b\n1, é\n", {}),
        ("a;b\n1;é\n", {"sep": ";"}),
        ("a\tb\n1\té\n", {"sep": "\t"}),
        ("a\tb\n1\té\n", {"sep": "\\t"}),
        ("a|b\n1|é\n", {"sep": "|"}),
        ("a,b\n1,é\n".encode("latin-1"), {"encoding": "latin-1"}),
        ("a,b\n1,é\n".encode("cp1252"), {"encoding": "cp1252"}),
        ("a,b\n1,é\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("a,b\n1,é\n".encode("utf-16-le"), {"encoding": "utf-16-le"}),
    ],
)
def test_the_forms_a_csv_comes_in(tmp_path, data: bytes | str, form: dict) -> None:
    table = raw(tmp_path, data, **form)
    assert table.to_dict("list") == {"a": [1], "b": ["é"]}


def test_quoted_line_breaks(tmp_path) -> None:
    table = raw(tmp_path, 'a,b\n"x\ny",1\n"x\r\ny",2\n"x\ry",3\n')
    assert table["a"].tolist() == ["x\ny", "x\r\ny", "x\ry"]


def test_200_columns(tmp_path) -> None:
    titles = [f"c{n}" for n in range(200)]
    table = raw(tmp_path, f"{','.join(titles)}\n" + f"{','.join('1' * 200)}\n" * 3)
    assert table.shape == (3, 200)


def test_whole_numbers_beside_gaps_stay_whole(tmp_path) -> None:
    table = raw(tmp_path, f"n,x\n{2**53 - 1},0.1\n,\n")
    assert table["n"].tolist() == [2**53 - 1, pd.NA]
    assert table["x"].tolist() == [0.1, pd.NA]


def test_only_the_words_that_were_named_are_missing(tmp_path) -> None:
    table = raw(tmp_path, "a,b\nNone,1\nNA,2\n,3\n", missing=["NA", ""])
    assert table["a"].tolist() == ["None", pd.NA, pd.NA]


@pytest.mark.parametrize("late", ["word", f"{2**63}", "True", "0.5", "007x"])
def test_a_column_has_one_type_however_long_the_file(tmp_path, late: str) -> None:
    """pandas reads large files in pieces; the last cell must count for the first one."""
    path = tmp_path / "long.csv"
    cells = ["7", *map(str, range(2**53 + 1, 2**53 + 400_000)), late]
    path.write_text("a,b\n" + "".join(f"{cell},some more text\n" for cell in cells))
    whole = pd.read_csv(path, low_memory=False, keep_default_na=False, na_values=[""])
    assert read_table(path)["a"].equals(whole["a"])
    raw_cells = read_raw(path)["a"]
    assert raw_cells.astype(str).iloc[[0, 1, -1]].tolist() == [
        str(cell) for cell in whole["a"].iloc[[0, 1, -1]]
    ]


@pytest.mark.parametrize(
    ("data", "form", "told"),
    [
        ("a;b\n1;2\n", {}, ["etl.sep=';'", "separated by ';'"]),
        ("a;b\n1,5;2\n3;4,5,6\n", {}, ["etl.sep=';'"]),
        ("a\tb\n1\t2\n", {}, ['etl.sep="\\t"']),
        ("a,b\n1,2\n", {"sep": ";"}, ["etl.sep=','"]),
        ("a||b\n1||2\n", {"sep": "||"}, ["etl.sep='||'", "one ASCII character"]),
        ("a,b\n1,2\n", {"sep": "\n"}, ["etl.sep"]),
        ("a,b\n1,2\n3,4,5\n", {}, ["line 3 of raw.csv has 3 cells", "etl.sep"]),
        ("a,b\n1,2,3\n4,5,6\n", {}, ["2 title(s), a, b,", "more cells"]),
        ("a,b\n1,2,\n", {}, ["2 title(s), a, b,", "more cells"]),
        ('a,b\n1,"2\n', {}, ["mark that is not closed: line 2"]),
        ("a,b\n1,é\n".encode("latin-1"), {}, ["not text in utf-8", "etl.encoding", "latin-1"]),
        ("a;b\n1;é\n".encode("latin-1"), {"sep": ";"}, ["not text in utf-8", "etl.encoding"]),
        ("a;b\n1;é\n".encode("latin-1"), {"encoding": "latin-1"}, ["etl.sep=';'"]),
        ("a,b\n1,“\n".encode("cp1252"), {"encoding": "utf-8"}, ["etl.encoding", "cp1252"]),
        ("a,b\n1,é\n".encode("utf-16"), {}, ["etl.encoding", "utf-16"]),
        ("a,b\n1,2\n".encode("utf-16-le"), {}, ["etl.encoding", "utf-16"]),
        ("a,b\n1,2\n", {"encoding": "utf-16"}, ["not text in utf-16", "etl.encoding"]),
        ("a,b\n1,2\n", {"encoding": "utf8x"}, ["etl.encoding='utf8x'"]),
        ("a,b\n1,2\n", {"encoding": "base64"}, ["etl.encoding='base64'"]),
        ("", {}, ["raw.csv is empty"]),
        ("\n\n", {}, ["raw.csv is empty"]),
    ],
)
def test_what_is_no_such_table_is_named(tmp_path, data, form: dict, told: list[str]) -> None:
    with pytest.raises(PipelineError) as caught:
        raw(tmp_path, data, **form)
    for words_of_it in told:
        assert words_of_it in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
