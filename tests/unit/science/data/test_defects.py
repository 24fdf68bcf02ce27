"""Small tables with one defect each: what is refused, read, or said."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.core.errors import PipelineError
from pipeline.science.data import cleaning, defects, kinds, tables

USUAL = ["", "NA", "N/A", "NaN", "nan", "null"]


def cleaned(
    folder: Path,
    text: str,
    *,
    missing: list[str] = (),
    rules: list[dict] = (),
    decimal: str = ".",
    thousands: str = "",
    parse: dict | None = None,
    sep: str = ",",
) -> tuple[pd.DataFrame, list[str]]:
    """A CSV's text as 2-ETL leaves it, and what was said."""
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    words = cleaning.text_columns(rules)
    numbers = {"decimal": decimal, "thousands": thousands, "parse": parse or {}}
    raw = tables.read_raw(
        path,
        sep,
        missing=[*USUAL, *missing],
        text_columns=[*words, *(parse or {})],
        as_text=decimal != "." or bool(thousands),
    )
    defects.check_quotes(raw, sep)
    raw, headers = defects.without_headers(raw)
    table, dropped = cleaning.clean(raw, [], {}, words, [*USUAL, *missing], numbers=numbers)
    ruled = [rule["column"] for rule in rules]
    kinds.check_numbers(table, ruled, numbers)
    table = cleaning.validate(table, list(rules))
    counted = tables.missing_words(path, raw, USUAL, sep, None)
    doubts = [*headers, *defects.text_warnings(table), *defects.number_warnings(table)]
    doubts += defects.code_warnings(table, counted)
    return table, [
        *doubts,
        *kinds.notes(table, ruled, counted),
        *cleaning.equal_rows(table, dropped),
    ]


def column(cells: list[str], sep: str = ",") -> str:
    """A table of two columns, one of them with these cells."""
    quoted = [f'"{cell}"' if sep in cell else cell for cell in cells]
    return f"price{sep}city\n" + "".join(f"{cell}{sep}c{n % 3}\n" for n, cell in enumerate(quoted))


PLAIN = [f"{n}.5" for n in range(1, 20)]
TIMES = [f"{n}:05:{n:02}" for n in range(1, 50)] + ["0:00:00.5"]
WHOLE = [f"{n}" for n in range(1, 20)]


@pytest.mark.parametrize(
    ("cells", "remedy", "settings", "last"),
    [
        ([*PLAIN, "?"], "etl.missing=['?']", {"missing": ["?"]}, None),
        ([*PLAIN, "-"], "etl.missing=['-']", {"missing": ["-"]}, None),
        ([*PLAIN, "unknown"], "etl.missing=['unknown']", {"missing": ["unknown"]}, None),
        ([*PLAIN, "Total"], "etl.missing=['Total'] if", {"missing": ["Total"]}, None),
        (["?"] * 15 + PLAIN, "etl.missing=['?']", {"missing": ["?"]}, 19.5),
        ([*PLAIN, "20%"], "etl.parse={price: percent}", {"parse": {"price": "percent"}}, 20),
        ([f"{n}%" for n in PLAIN], "{price: percent}", {"parse": {"price": "percent"}}, 19.5),
        ([*PLAIN, "1,234.5"], "etl.thousands=','", {"thousands": ","}, 1234.5),
        ([*WHOLE, "1,234,567"], "etl.thousands=','", {"thousands": ","}, 1234567),
        (["12,5", "13,25", "1,0", "7"], "etl.decimal=','", {"decimal": ","}, 7),
        (["1.234,5", "2,0", "3,0"], "etl.thousands='.'", {"decimal": ",", "thousands": "."}, 3),
        ([*PLAIN, "$5"], "etl.parse={price: currency}", {"parse": {"price": "currency"}}, 5),
        ([f"€ {n}" for n in PLAIN], "{price: currency}", {"parse": {"price": "currency"}}, 19.5),
        ([*PLAIN, "USD 1,234.50"], "{price: currency}", {"parse": {"price": "currency"}}, 1234.5),
        ([*PLAIN, "-$7"], "{price: currency}", {"parse": {"price": "currency"}}, -7),
        (TIMES, "{price: duration}", {"parse": {"price": "duration"}}, 0.5),
        ([*TIMES, "-1:30"], "{price: duration}", {"parse": {"price": "duration"}}, -5400),
        ([f"{n} kg" for n in PLAIN], "{price: unit}", {"parse": {"price": "unit"}}, 19.5),
        ([*PLAIN, "5 m²"], "{price: unit}", {"parse": {"price": "unit"}}, 5),
        ([*PLAIN, "(5)"], "etl.parse={price: number}", {"parse": {"price": "number"}}, -5),
        ([*PLAIN, "\u22125"], "etl.parse={price: number}", {"parse": {"price": "number"}}, -5),
        ([*PLAIN, "1 234"], "etl.parse={price: number}", {"parse": {"price": "number"}}, 1234),
        ([*PLAIN, "#REF!"], "etl.missing=['#REF!']", {"missing": ["#REF!"]}, None),
    ],
)
def test_one_odd_cell_stops_and_the_setting_reads_it(
    tmp_path: Path, cells: list[str], remedy: str, settings: dict, last: float | None
) -> None:
    with pytest.raises(PipelineError) as refused:
        cleaned(tmp_path, column(cells))
    assert refused.value.what.splitlines()[1].startswith("  price: ")
    assert remedy in refused.value.remedy
    table, _ = cleaned(tmp_path, column(cells), **settings)
    assert kinds.dtype(table["price"]) in ("int", "float")
    assert table["price"].iloc[-1] is pd.NA if last is None else table["price"].iloc[-1] == last
    words, _ = cleaned(tmp_path, column(cells), rules=[{"column": "price", "dtype": "str"}])
    assert kinds.dtype(words["price"]) == "str"


@pytest.mark.parametrize(
    "cells",
    [
        ["S", "M", "38", "40", "42", "L"],
        ["4WD", "2WD", "FWD", "4WD"],
        ["1st", "2nd", "3rd", "4th"],
        ["2024-01-05", "2024-01-06", "2024-02-07"],
        ["31.01.2024", "01.02.2024", "02.02.2024"],
        ["08:30", "09:15", "10:00"],
        ["12A", "12B", "7C", "9D"],
        ["1-10", "11-20", "21-30"],
        ["+49 30 1234", "+49 40 4567", "+49 89 9999"],
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
        ["a", "b", "?", "c"],
        ["A/5 21171", "113803", "373450", "PC 17599", "STON/O2", "330877"],
    ],
)
def test_words_stay_words(tmp_path: Path, cells: list[str]) -> None:
    table, _ = cleaned(tmp_path, column(cells))
    assert table["price"].tolist() == cells


def test_a_decimal_comma_and_dates_with_points(tmp_path: Path) -> None:
    text = "price;day;city\n1.234,5;31.01.2024;a\n7;01.02.2024;b\n0,25;02.02.2024;c\n"
    table, _ = cleaned(tmp_path, text, sep=";", decimal=",", thousands=".")
    assert table["price"].tolist() == [1234.5, 7, 0.25]
    assert table["day"].tolist() == ["31.01.2024", "01.02.2024", "02.02.2024"]


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["00501", "10115", "80331"], "leading zeros"),
        (["01", "1", "2"], "leading zeros"),
        (["1E5", "2E7", "31"], "an E between digits"),
        ([f"{2**53 + n}" for n in range(1, 6)], "more digits"),
        ([f"{2**64 + n}" for n in range(5)], "more digits"),
        ([f"{2**64 + 1}", "", "5"], "more digits"),
    ],
)
def test_codes_stay_text_and_that_is_said(tmp_path: Path, cells: list[str], why: str) -> None:
    table, said = cleaned(tmp_path, column(cells))
    assert table["price"].fillna("").tolist() == cells
    assert [line for line in said if line.startswith("price: ") and why in line]
    rules = [{"column": "price", "dtype": "float", "nullable": True}]
    table, said = cleaned(tmp_path, column(cells), rules=rules)
    assert table["price"].dropna().tolist() == [float(cell) for cell in cells if cell]
    assert not [line for line in said if line.startswith("price: ")]


@pytest.mark.parametrize(
    "cells",
    [["0.5", "1e-05", "3"], ["1.5E+10", "2", "0"], ["0", "10", "20"], [f"{2**53 - 1}", "0", "-0"]],
)
def test_numbers_stay_numbers(tmp_path: Path, cells: list[str]) -> None:
    table, said = cleaned(tmp_path, column(cells))
    assert table["price"].tolist() == [float(cell) for cell in cells]
    assert not said


def test_words_that_count_as_missing_are_said(tmp_path: Path) -> None:
    text = "country,n\nNA,NA\nDE,1\nNA,2\nFR,3\n"
    table, said = cleaned(tmp_path, text)
    assert table["country"].isna().sum() == 2
    line = "country: 2 cells 'NA' count as missing"
    assert said[0].startswith(f"{line}, among codes such as 'DE'")
    assert said[1:] == [f"{line} (etl.usual_missing=[''] keeps words)"]


def test_equal_rows_are_kept_and_counted(tmp_path: Path) -> None:
    table, said = cleaned(tmp_path, "a,b\n1,x\n1,x\n1,x\n2,y\n")
    assert len(table) == 4
    assert said == [
        "2 of 4 rows are equal to an earlier one, and kept (etl.duplicates=drop drops them)"
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"parse": {"prise": "currency"}}, "etl.parse names 'prise'"),
        ({"parse": {"price": "euro"}}, "unknown etl.parse.price='euro'"),
        ({"parse": {"price": "percent"}}, "2 cell(s) are not: 'many', '5 kg' (data row 3)"),
        ({"decimal": ".", "thousands": "."}, "etl.decimal and etl.thousands are both '.'"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, settings: dict, said: str) -> None:
    with pytest.raises(PipelineError) as refused:
        cleaned(tmp_path, column(["1", "2", "many", "5 kg"]), **settings)
    assert said in refused.value.what


@pytest.mark.parametrize("settings", [{}, {"decimal": ","}, {"thousands": ","}])
def test_numbers_in_two_notations_are_refused(tmp_path: Path, settings: dict) -> None:
    rows = "".join(f"{n},5;{1000 + n:,}.25\n" for n in range(20))
    with pytest.raises(PipelineError, match="written in two ways") as refused:
        cleaned(tmp_path, f"a;b\n{rows}", sep=";", **settings)
    assert "keep one as text" in refused.value.remedy


def test_units_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="several units: 'kg', 'g'"):
        cleaned(tmp_path, column(["1 kg", "2 kg", "30 g"]), parse={"price": "unit"})


ROWS = "".join(f"{n},{n * 2}.5,c{n % 3}\n" for n in range(30))


def test_a_quotation_mark_that_is_not_closed(tmp_path: Path) -> None:
    lines = [f"{n},{n}.5,c{n % 3}" for n in range(30)]
    lines[5], lines[20] = '5,5.5,"c2', '20,20.5,c2"'
    with pytest.raises(
        PipelineError, match=r"'c' holds 14 line\(s\) that look like rows \(data row 6"
    ):
        cleaned(tmp_path, "a,b,c\n" + "\n".join(lines) + "\n")
    poem = 'a,b,c\n1,2,"one,\ntwo\nthree, four"\n3,4,x\n'
    assert len(cleaned(tmp_path, poem)[0]) == 2


def test_a_header_that_is_repeated(tmp_path: Path) -> None:
    table, said = cleaned(tmp_path, f"a,b,c\n{ROWS}a,b,c\n{ROWS}")
    assert len(table) == 60
    assert kinds.dtype(table["a"]) == "int"
    assert "1 row(s) repeat the header and are left out (row 31)" in said


def test_headers_of_orange(tmp_path: Path) -> None:
    table, said = cleaned(tmp_path, f"a,b,c\ncontinuous,c,discrete\n,,class\n{ROWS}")
    assert len(table) == 30
    assert kinds.dtype(table["b"]) == "float"
    assert "the first 2 row(s) are headers of Orange's and are left out" in said


def test_a_second_header_stops(tmp_path: Path) -> None:
    with pytest.raises(
        PipelineError, match=r"a: 1 of 31 cells are not numbers: 'cm' \(data row 1\)"
    ):
        cleaned(tmp_path, f"a,b,c\ncm,kg,name\n{ROWS}")


def test_a_title_that_stands_twice(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="several columns titled 'y'"):
        cleaned(tmp_path, "y,x,y\n1,2,3\n4,5,6\n")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["Yes", "YES", "yes", "No"] * 5, "'YES', 'Yes', 'yes' differ in case or spaces only"),
        (["New York", "New  York", "Bern", "Bern"] * 5, "differ in case or spaces only"),
        (["a", "b", "?", "a", "b", "a"] * 5, "5 cells look like missing values and count as words"),
        (["a", "b", "not available"] * 5, "5 cells look like missing values and count as words"),
        ([*["a", "b", "c"] * 8, "Total"], "the last row ('Total') looks like a total"),
        (["Bern", "Bern\u200b", "Thun"] * 5, "differ in case or spaces only"),
        ([f"{n} {'kg' if n % 2 else 'lb'}" for n in range(20)], "are numbers with 'kg', 'lb'"),
        ([f"{n % 12}.5{'k' if n % 2 else 'M'}" for n in range(60)], "are numbers with 'M', 'k'"),
        ([f"{n % 20}:30" for n in range(60)], "etl.parse={price: duration} makes them numbers"),
        (["CH", "NA", "DE"] * 5, "5 cells 'NA' count as missing, among codes such as 'CH'"),
        ([*WHOLE, *WHOLE, f"{10**12}"], "price: 1000000000000 (data row 39) is far from"),
        ([*WHOLE, "-999", *WHOLE], "price: -999 (data row 20) is far from the other values, 1 to"),
        ([*PLAIN, *PLAIN, "-999.0"], "or, if it means no value, set etl.missing=['-999']"),
    ],
)
def test_words_that_are_likely_wrong(tmp_path: Path, cells: list[str], said: str) -> None:
    _, lines = cleaned(tmp_path, column(cells))
    assert [line for line in lines if said in line], lines


@pytest.mark.parametrize(
    "cells",
    [
        [f"{n} {'abcdefgh'[n % 8]}" for n in range(60)],
        [f"2024-{1 + n % 12:02}" for n in range(60)],
        [f"10.0.0.{n}" for n in range(60)],
        ["08:30", "09:15", "10:00"] * 10,
        ["NA", "Bern", "Thun"] * 5,
        [*WHOLE, "99", *WHOLE, "80"],
        [*WHOLE, *WHOLE, "500"],
        ["7"] * 30,
        ["0", "1"] * 20,
        ["0", "0", "0", "1000000000000"] * 10,
    ],
)
def test_what_is_likely_meant(tmp_path: Path, cells: list[str]) -> None:
    _, lines = cleaned(tmp_path, column(cells))
    doubts = ("far from", "are numbers with", "makes them numbers", "among codes")
    assert not [line for line in lines if any(doubt in line for doubt in doubts)], lines


def test_an_empty_column_of_text_is_no_amount() -> None:
    table = pd.DataFrame(
        {"a": pd.array([None] * 30, "string"), "b": pd.array([None] * 30, "Int64")}
    )
    assert defects.text_warnings(table) == defects.number_warnings(table) == []


@pytest.mark.parametrize("word", ["none", "x", "unknown", "#python"])
def test_a_category_is_no_missing_value(tmp_path: Path, word: str) -> None:
    _, lines = cleaned(tmp_path, column(["a", "b", word] * 5))
    assert not [line for line in lines if "missing values" in line]


def test_words_that_yaml_takes_for_truth_values(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="YAML reads yes, no"):
        cleaning.check_rules([{"column": "a", "values": [True, False]}])
    raw = pd.DataFrame({"a": pd.array(["Yes", None], "string")})
    with pytest.raises(PipelineError, match="'a', a column of words, the truth value False"):
        cleaning.fill_missing(raw, {"a": False})


def test_columns_are_named_by_their_titles_too() -> None:
    columns = ["customer_id", "x"]
    assert defects.resolve_columns(["Customer ID", "x", "other"], columns) == [
        "customer_id",
        "x",
        "other",
    ]
