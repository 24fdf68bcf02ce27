"""Tables in the formats that people have them in: each is read as the CSV file is."""

import bz2
import gzip
import json
import lzma
import tarfile
import zipfile
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

from pipeline.core.data.formats import detect_format
from pipeline.core.errors import PipelineError
from pipeline.science.data import cleaning, formats

TABLE = pd.DataFrame(
    {
        "Rooms": [1, 2, None, 4],
        "Zip": ["00501", "00502", "00501", "00999"],
        "Built": pd.to_datetime(["2001-02-03", "2002-03-04", None, "2004-05-06"]),
        "City": pd.Categorical(["Bern", "Genf", "Bern", "NA"]),
        "Sold": [True, False, True, True],
        "Price": [1.5, 2.5, 3.25, 1e9],
    }
)
CSV = TABLE.to_csv(index=False).encode()


def write(folder: Path, kind: str) -> Path:
    """The table as a file of some kind; none has its suffix."""
    path = folder / "table"
    records = json.loads(TABLE.to_json(orient="records", date_format="iso"))
    for record in records:
        record["Built"] = record["Built"] and record["Built"][:10]
    match kind:
        case "csv":
            path.write_bytes(CSV)
        case "gzip":
            path.write_bytes(gzip.compress(CSV))
        case "bzip2":
            path.write_bytes(bz2.compress(CSV))
        case "xz in zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("in/table.csv.xz", lzma.compress(CSV))
                archive.writestr("__MACOSX/._table", b"")
        case "parquet":
            TABLE.to_parquet(path)
        case "xlsx":
            with pd.ExcelWriter(path, engine="openpyxl") as book:
                TABLE.to_excel(book, index=False)
        case "parts":
            path.mkdir()
            TABLE[:2].to_parquet(path / "1.parquet")
            TABLE[2:].to_parquet(path / "2.parquet")
        case "json":
            path.write_text(json.dumps(records))
        case "json lines":
            path.write_text("\n".join(map(json.dumps, records)))
        case "json of columns":
            path.write_text(json.dumps({name: [row[name] for row in records] for name in TABLE}))
        case "json in an envelope":
            path.write_text(json.dumps({"count": 4, "results": records}))
        case "json of rows":
            path.write_text(json.dumps({str(n): row for n, row in enumerate(records)}))
        case "json split":
            rows = [[*row.values()] for row in records]
            path.write_text(json.dumps({"columns": [*TABLE], "data": rows}))
        case _:
            raise ValueError(kind)
    return path


KINDS = ["csv", "gzip", "bzip2", "xz in zip", "parquet", "parts", "xlsx", "json", "json lines",
         "json of columns", "json in an envelope", "json of rows", "json split"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_becomes_the_same_clean_table(tmp_path: Path, kind: str) -> None:
    path = formats.unpack(write(tmp_path, kind), tmp_path / "unpacked")
    raw = formats.read(path, missing=["", "NA"], usual_missing=["", "NA"])
    table, _ = cleaning.clean(raw.table, [], {}, raw.texts, ["", "NA"])
    expected, _ = cleaning.clean(
        formats.read(write(tmp_path / "..", "csv"), missing=["", "NA"]).table, [], {}, [], ["NA"]
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    assert table["zip"].tolist()[0] == "00501"
    assert raw.missing == {"City": {"NA": 1}}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "json" in kind or kind[0] in "px"][1:])
def test_every_format_can_be_written_as_csv(tmp_path: Path, kind: str) -> None:
    """With the decimals of another file, as a model's training data may have had them."""
    path = formats.unpack(write(tmp_path, kind), tmp_path / "unpacked")
    assert formats.write_csv(path, tmp_path / "rows.csv", decimal=",") is not None
    rows = formats.read(tmp_path / "rows.csv", as_text=True).table
    assert rows["Price"].tolist()[:3] == ["1,5", "2,5", "3,25"]
    assert rows["Zip"].tolist() == TABLE["Zip"].tolist()
    assert rows["Rooms"].str.removesuffix(",0").tolist() == ["1", "2", pd.NA, "4"]
    assert rows["Built"].tolist() == ["2001-02-03", "2002-03-04", pd.NA, "2004-05-06"]


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    """A workbook of two sheets."""
    path = tmp_path / "book.xlsx"
    with pd.ExcelWriter(path) as book:
        houses = pd.DataFrame({"Rooms": [1, 2.5, None], "City": ["Bern", "Genf", "Bern"]})
        houses.to_excel(book, sheet_name="Houses", index=False, startrow=2)
        notes = pd.DataFrame([["Report", None], ["a", "b"], [1, 2]])
        notes.to_excel(book, sheet_name="Notes", index=False, header=False)
    return path


def test_a_workbook_and_its_sheets(workbook: Path) -> None:
    assert formats.unpack(workbook, workbook.parent / "x") == workbook
    raw = formats.read(workbook)
    assert raw.notes == ["the sheet 'Houses' is read; others: Notes (etl.table=NAME)"]
    assert raw.table.to_dict("list") == {"Rooms": [1, 2.5, None], "City": ["Bern", "Genf", "Bern"]}
    for part, said in [
        ("Notes", "the first row of the sheet 'Notes' is no header: 1 of its 2 cells are empty"),
        ("Hauses", "etl.table='Hauses' is not in the workbook book.xlsx (did you mean 'Houses'?)"),
    ]:
        with pytest.raises(PipelineError) as refused:
            formats.read(workbook, part=part)
        assert said in str(refused.value)


def test_types_that_a_file_gives_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "typed"
    pd.DataFrame(
        {
            "code": ["12", "13"],
            "amount": [Decimal("1.50"), Decimal("2")],
            "long": [2**60, 2**60 + 1],
            "when": pd.to_datetime(["2024-01-01T10:00", "2024-01-02T00:00"], utc=True),
            "took": pd.to_timedelta(["1min", None]),
            "tags": [["a"], ["b", "c"]],
            "image": [b"\x00", b"\x01"],
        }
    ).set_index("code").to_parquet(path)
    raw = formats.read(path)
    assert raw.texts == ["code"]  # the long ones stay text anyway
    assert raw.notes == ["image holds bytes, such as images, and is left out"]
    assert raw.table.to_dict("list") == {
        "code": ["12", "13"],
        "amount": [1.5, 2.0],
        "long": [str(2**60), str(2**60 + 1)],
        "when": ["2024-01-01T10:00:00+0000", "2024-01-02T00:00:00+0000"],
        "took": [60, None],
        "tags": ['["a"]', '["b", "c"]'],
    }


def test_nested_objects_are_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[{"a": {"b": 1, "c": "x"}, "d": [1]}, {"a": {"b": 2}, "d": []}]')
    table = formats.read(path).table
    assert table.to_dict("list") == {"a.b": [1, 2], "a.c": ["x", None], "d": ["[1]", "[]"]}


def test_what_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("in/b.csv", CSV)
    with pytest.raises(PipelineError, match=r"holds 2 files: a.csv, in/b.csv\nsay which"):
        formats.unpack(path, tmp_path / "out")
    assert formats.unpack(path, tmp_path / "out", "b.csv").read_bytes() == CSV
    with pytest.raises(PipelineError, match=r"etl.table='c.csv' is not in the archive"):
        formats.unpack(path, tmp_path / "out", "c.csv")
    packed = path.read_bytes()
    for data, said in [
        (packed[:40], "can't be unpacked"),
        (gzip.compress(CSV)[:20], "can't be unpacked"),
        (b"PAR1" + b"x" * 40, "can't be read as parquet"),
        (b'{"a": 1}\n{"a": oops}\n', "line 2 of x is not JSON"),
        (b'{"a": 1, "b": 2}', "is JSON, but not a table"),
        (b"[]", "is JSON, but not a table"),
        (b"[[1, 2], [3, 4]]", "the first row of x is no header: [1, 2]"),
        (b"SQLite format 3\x00" + b"x" * 40, "is a sqlite file"),
    ]:
        path.write_bytes(data)
        with pytest.raises(PipelineError) as refused:
            formats.read(formats.unpack(path, tmp_path / "out"))
        assert said in str(refused.value)
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "out", "out")
    assert detect_format(path) == "tar"
    path.write_text("[id],[name]\n1,x\n")
    assert detect_format(path) == "csv"


@pytest.mark.parametrize(
    "name", ["../a.csv", "../../a.csv", "/a.csv", "b/../../a.csv", "C:\\a.csv"]
)
def test_an_archive_writes_nothing_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, CSV)
    file = formats.unpack(path, tmp_path / "out" / "in")
    assert file.read_bytes() == CSV
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {path, file}
    assert file.parent == tmp_path / "out" / "in"


@pytest.mark.parametrize("names", [[], ["folder/"], ["__MACOSX/a.csv", ".a.csv"]])
def test_an_archive_without_a_file(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/", b"")
        for name in names:
            archive.writestr(name, CSV if not name.endswith("/") else b"")
    with pytest.raises(PipelineError, match=r"x\.zip holds no file"):
        formats.unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["csv", "gzip", "xz in zip", "parquet", "parts"])
def test_a_table_larger_than_the_memory_is_not_read(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    with pytest.raises(PipelineError, match=r"is a table of 0\.0 GiB or more, and 0\.0 GiB of"):
        formats.unpack(path, tmp_path / "out", free=len(CSV) - 1 if "par" not in kind else 100)
    formats.unpack(path, tmp_path / "out", free=10_000)
