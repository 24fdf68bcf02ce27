"""Cleaning a table: names, cells, gaps, duplicates, and the schema."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.science.data import cleaning
from pipeline.science.data.tables import read_raw, write_table
from tests.support.paths import POKEMON, ROOT

clean = cleaning.clean

# Cells as they come: numbers in several spellings, truth values, words for gaps, odd white space
NUMBERS = ["1", "2.50", "007", "-1e3", " 3 ", "\xa04", "inf", "nan", "1e300", f"{2**53 + 1}.0"]
WORDS = ["", " ", "NA", " None", "x", "é\t", "0x1f", "a\nb", "true", "FALSE", " True"]
cells = st.sampled_from(NUMBERS) | st.sampled_from(WORDS)


def frame(text: str, **form) -> pd.DataFrame:
    """A CSV's text as the step reads it."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "raw.csv")
        path.write_bytes(text.encode())
        return read_raw(path, **form)


def refusal(call, *arguments) -> str:
    """What a call that has to fail says."""
    with pytest.raises(PipelineError) as caught:
        call(*arguments)
    assert caught.value.remedy
    return str(caught.value)


def checked(text: str, *rules: dict) -> pd.DataFrame:
    """The clean table, checked against rules, as in the program."""
    cleaning.check_rules(list(rules))
    words = cleaning.text_columns(list(rules))
    table, _ = clean(frame(text, text_columns=words), [], {}, words)
    return cleaning.validate(table, list(rules))


@given(
    st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=8),
    st.sampled_from([[], ["a"], ["b"]]),
    st.sampled_from([{}, {"c": "none"}]),
    st.sampled_from([[], ["NA", "None"]]),
)
@example([("", "", "1"), ("", "7", "NA ")], ["b"], {}, ["NA"])
def test_cleaning_twice_is_cleaning_once(rows, required, fill, missing) -> None:
    """Also when the clean table was written to a file and read again as if it were raw."""
    text = ["c"] if fill else []
    raw = pd.DataFrame(rows, columns=[" A", "b", "C "])
    with TemporaryDirectory() as folder:
        path = write_table(raw, Path(folder, "raw.csv"))
        try:
            once, dropped = clean(
                read_raw(path, missing=missing, text_columns=text), required, fill, text, missing
            )
        except PipelineError as error:
            assert "no row is left" in error.what  # noqa: PT017 - many inputs, one law
            return
        assert len(once) + sum(dropped.values()) == len(raw)
        again, nothing = clean(once, required, fill, text, missing)
        pd.testing.assert_frame_equal(again, once)
        assert nothing == {}
        first = write_table(once, Path(folder, "once.csv"))
        reread, nothing = clean(
            read_raw(first, missing=missing, text_columns=text), required, fill, text, missing
        )
        assert nothing == {}
        assert write_table(reread, path).read_bytes() == first.read_bytes()


def test_names_and_cells() -> None:
    raw = frame('#,Sp. Atk, camelCase ,Note\n1, 5 ,"  a b ",x\n2,6,"",\n')
    before = raw.copy()
    table, dropped = clean(raw, [], {})
    assert list(table) == ["number", "sp_atk", "camel_case", "note"]
    assert table["camel_case"].tolist() == ["a b", pd.NA]
    assert table["sp_atk"].tolist() == [5, 6]
    assert table["note"].tolist() == ["x", pd.NA]
    assert dropped == {}
    pd.testing.assert_frame_equal(raw, before)


def test_columns_of_numbers_and_of_truth_are_found_behind_spaces() -> None:
    text = 'a,b,c,code\n"1 ","true ",NA ,"007 "\n" "," FALSE",2,"8"\n'
    raw = frame(text, text_columns=["code"])
    table, _ = clean(raw, [], {}, ["code"], ["NA"])
    assert table["a"].tolist() == [1, pd.NA]
    assert table["b"].tolist() == [True, False]
    assert table["c"].tolist() == [pd.NA, 2]
    assert table["code"].tolist() == ["007", "8"]


def test_numbers_that_a_float_cannot_hold_stay_text() -> None:
    table, _ = clean(frame("id\n12345678901234567890123\n12345678901234567890124\n"), [], {})
    assert table["id"].tolist() == ["12345678901234567890123", "12345678901234567890124"]


def test_duplicates_go_and_the_first_stays() -> None:
    table, dropped = clean(frame("a,b\n1,x\n2,y\n1,x \n1,z\n"), None, {}, duplicates="drop")
    assert table.index.tolist() == [0, 1, 3]
    assert dropped == {"duplicate": 1}


def test_rows_without_a_required_value_go() -> None:
    raw = frame("a,b,c\n1,,\n,2,\n3,3,3\n4,,4\n")
    assert clean(raw, None, {})[0].index.tolist() == [2]
    assert clean(raw, None, {"b": 0, "c": 0})[0]["b"].tolist() == [0, 3, 0]
    assert clean(raw, [], {})[1] == {}
    table, dropped = clean(raw, ["b"], {})
    assert table.index.tolist() == [1, 2]
    assert dropped == {"missing b": 2}
    ((note, warning),) = cleaning.dropped_rows({**dropped, "duplicate": 1}, len(raw))
    assert note.startswith("2 of 4 rows are dropped: missing b (etl.required")
    assert warning
    assert [few for _, few in cleaning.dropped_rows({"missing b": 2}, 100)] == [False]
    told = refusal(clean, raw, ["bb"], {})
    assert "etl.required names 'bb'" in told
    assert "a, b, c" in told


def test_a_column_that_a_dropped_row_had_spoilt() -> None:
    table, _ = clean(frame("a,b\nword,\n1,x\n2,y\n"), ["b"], {})
    assert table["a"].tolist() == [1, 2]


def test_nothing_left() -> None:
    told = refusal(clean, frame("a,b\n1,\n2,\n"), None, {})
    assert "no row is left of 2; dropped: {'missing b': 2}" in told
    assert "etl.required" in told
    assert "a header and no rows" in refusal(clean, frame("a,b\n"), None, {})
    assert "a header and no rows" in refusal(clean, frame('"a\nb",c\n\n'), None, {})


def test_fills() -> None:
    raw = frame("n,word,empty\n1,x,\n,,\n")
    table, _ = clean(raw, None, {"n": 0, "word": 5, "empty": "none", "absent": 1})
    assert table["n"].tolist() == [1, 0]
    assert table["word"].tolist() == ["x", "5"]
    assert table["empty"].tolist() == ["none", "none"]
    told = refusal(clean, raw, None, {"n": "zero"})
    assert "etl.fill gives 'n', a column of Int64, the value 'zero'" in told


def test_titles_that_collide() -> None:
    told = refusal(clean, frame("Sp. Atk,sp atk,b\n1,2,3\n"), None, {})
    assert "['Sp. Atk', 'sp atk'] all become ['sp_atk']" in told


def test_a_fraction_is_no_whole_number() -> None:
    """pandas would cut it to one, and say nothing."""
    for cells in (["1", "2.5", ""], ["1", "2.5", "300"]):
        table = cleaning.read_types(pd.DataFrame({"a": cells}, dtype="str").replace("", None), [])
        rules = [{"column": "a", "dtype": "int", "max": 255, "nullable": True}]
        with pytest.raises(PipelineError, match=r"a: dtype int fails for 1 row\(s\): 2.5"):
            cleaning.validate(table, rules)


def test_the_types_of_the_schema() -> None:
    rules = [
        {"column": "code", "dtype": "str"},
        {"column": "n", "dtype": "int", "min": 1, "max": 3, "nullable": True},
        {"column": "x", "dtype": "float"},
        {"column": "yes", "dtype": "bool"},
        {"column": "kind", "values": ["a", "b"], "unique": True},
    ]
    table = checked("code,n,x,yes,kind,more\n007,1,1,0,a,\n08,,2,1,b,5\n", *rules)
    assert table["code"].tolist() == ["007", "08"]
    assert table.dtypes.astype(str).tolist()[1:4] == ["Int64", "Float64", "boolean"]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"dtype": "int"}, "kind: dtype int fails for 3 row(s): 'a', 'b' (data row 1, 2, 3)"),
        ({"dtype": "float"}, "kind: dtype float fails for 3 row(s): 'a', 'b' (data row 1, 2, 3)"),
        ({"dtype": "bool"}, "kind: dtype bool fails for 3 row(s): 'a', 'b' (data row 1, 2, 3)"),
        ({"column": "n", "min": 2}, "n: min 2 fails for 1 row(s): 1 (data row 1)"),
        ({"column": "n", "max": 1}, "n: max 1 fails for 2 row(s): 2, 3 (data row 2, 3)"),
        ({"values": ["a"]}, "kind: values ['a'] fails for 1 row(s): 'b' (data row 2)"),
        ({"unique": True}, "kind: unique fails for 2 row(s): 'a' (data row 1, 3)"),
        ({"column": "gap"}, "gap: nullable false fails for 1 row(s): <NA> (data row 2)"),
        ({"column": "kindd"}, "kindd: no such column"),
        ({"min": 3}, "kind: min 3 can't be checked: TypeError"),
        ({"dtype": "int", "min": 3, "max": 5}, "kind: dtype int fails for 3 row(s)"),
    ],
)
def test_every_violation_is_named(rule: dict, told: str) -> None:
    message = refusal(checked, "kind,n,gap\na,1,x\nb,2,\na,3,z\n", {"column": "kind", **rule})
    assert "breaks etl.schema in 1 place(s)" in message
    assert told in message


def test_all_violations_are_named_at_once() -> None:
    rules = [{"column": f"c{n}"} for n in range(30)]
    message = refusal(checked, "a,b\n1,x\n5,y\n", {"column": "a", "max": 4}, *rules)
    assert "in 31 place(s)" in message
    assert "... and 11 more" in message


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"column": "a", "mim": 1}, "unknown rule 'mim' for column 'a' (did you mean 'min'?)"),
        ({"column": "a", "dtype": "integer"}, "unknown dtype 'integer' for column 'a'"),
        ({"dtype": "int"}, "names no column"),
        ("a", "names no column"),
    ],
)
def test_rules_that_are_none(rule, told: str) -> None:
    assert told in refusal(cleaning.check_rules, [rule])


def pokemon() -> tuple[pd.DataFrame, dict]:
    """The real table and its settings."""
    settings = yaml.safe_load((ROOT / "conf" / "data" / "pokemon.yaml").read_text())["etl"]
    words = cleaning.text_columns(settings["schema"])
    return read_raw(POKEMON, missing=settings["usual_missing"], text_columns=words), settings


def test_pokemon() -> None:
    raw, settings = pokemon()
    table, dropped = clean(raw, None, settings["fill"])
    table = cleaning.validate(table, settings["schema"])
    assert len(raw) == len(table) == 800
    assert dropped == {}
    assert (table["type_2"] == "none").sum() == 386
    assert table["legendary"].sum() == 65
    assert len(clean(raw, None, {})[0]) == 414
    broken = raw.assign(Generation=raw["Generation"] + 1)
    assert "generation: " in refusal(
        cleaning.validate, clean(broken, [], {})[0], settings["schema"]
    )
