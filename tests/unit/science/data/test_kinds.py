"""What the columns of a table hold, and that it survives a file."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.core.errors import PipelineError
from pipeline.science.data import cleaning, kinds
from pipeline.science.data.tables import read_raw, read_table


def cleaned(folder: Path, text: str, text_columns: list[str] = ()) -> pd.DataFrame:
    """A CSV's text as 2-ETL leaves it."""
    path = folder / "raw.csv"
    path.write_text(text, encoding="utf-8")
    raw = read_raw(path, missing=[""], text_columns=text_columns)
    return cleaning.clean(raw, [], {}, text_columns)[0]


def test_types_survive_the_file(tmp_path: Path) -> None:
    text = "zip,n,x,ok,word\n10115,1,0.5,true,a\n80331,2,1.0,,b\n01067,,,false,\n"
    table = cleaned(tmp_path, text, ["zip"])
    place = kinds.write(table, kinds.schema(table), tmp_path / "out", "clean.csv")
    assert sorted(path.name for path in place.iterdir()) == ["clean.csv", "schema.json"]
    schema = kinds.schema(table)
    found = {column["column"]: column["dtype"] for column in schema["columns"]}
    assert found == {"zip": "str", "n": "int", "x": "float", "ok": "bool", "word": "str"}
    assert schema["columns"][4]["categories"] == ["a", "b"]
    read = read_table(place / "clean.csv", schema=schema)
    assert read["zip"].tolist() == ["10115", "80331", "01067"]
    assert kinds.schema(read) == {**schema, "columns": [
        {**column, "dtype": "float"} if column["column"] == "n" else column  # a gap, as ever
        for column in schema["columns"]
    ]}  # fmt: skip
    part = place / "part.csv"
    part.write_text(
        "zip,n,x,ok,word\n10115,1,1,TRUE,7\n"
    )  # of one row, whose words look like other things
    one = read_table(part, schema=schema).iloc[0].tolist()
    assert one == ["10115", 1, 1.0, True, "7"]


def test_a_cell_that_the_schema_does_not_allow(tmp_path: Path) -> None:
    path = tmp_path / "part.csv"
    path.write_text("n,ok\n1,true\nx,maybe\n")
    for column, word, dtype in (("n", "x", "int"), ("ok", "maybe", "bool")):
        told = {"columns": [{"column": column, "dtype": dtype}]}
        with pytest.raises(PipelineError, match=f"'{column}' is of type {dtype}.*'{word}'"):
            read_table(path, schema=told)
