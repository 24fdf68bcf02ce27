"""2-ETL as a program. What it does with a table: tests/unit/science/test_cleaning.py."""

from tests.support.steps import Steps

STEP = "2-ETL"


def test_an_odd_file(place: Steps):
    place.put("a;b;c\r\n1;x;é\r\n1;x;é\r\n;y;\r\n".encode("latin-1"))
    options = {
        "duplicates": "drop",
        "sep": ";",
        "encoding": "latin-1",
        "required": ["a"],
        "fill": {"d": 0},
    }
    ended = place.step(STEP, **options, missing="")
    assert ended.status == 0, ended.err
    assert ended.report["warnings"] == ["etl.fill names 'd', which the table lacks"]
    rows = {"rows_before": 3, "rows_after": 1, "columns": 3}
    assert ended.report["metrics"] == {**rows, "dropped missing a": 1, "dropped duplicate": 1}
    (output,) = ended.report["outputs"]
    assert output["type"] == "processed_data"
    dropped = {"missing a": 1, "duplicate": 1}
    assert place.artifacts()["clean_data.csv:v0"] == {
        **rows, "dropped": dropped, "notes": ended.report["notes"],
    }  # fmt: skip

    rules = [{"column": "a", "dtype": "int", "min": 5}, {"column": "b", "dtype": "int"}]
    place.refused(STEP, "a: min 5", "b: dtype int", "in 2 place(s)", **options, schema=rules)


def test_an_artifact_that_is_not_there(place: Steps):
    place.refused(STEP, "'raw.csv:v7' was not found", input_artifact="raw.csv:v7")
