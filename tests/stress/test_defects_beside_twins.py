"""Tables of one defect each, through main.py beside their clean twins: nothing is silently wrong.

A run on a defective table stops with a remedy, or comes to its twin's metric, or warns.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from tests.support.own_tables import (
    Table,
    coded,
    dated,
    described,
    houses,
    parted,
    run,
    sales,
)
from tests.support.runs import Checkout, Finished

NEAR = 0.01  # a difference between the metrics of a table and of its twin that is chance


def counted(table: Table, form: str = "{}") -> list[str]:
    """The numbers of a table's rows, in a form."""
    return [form.format(n + 1) for n in range(len(table.rows))]


def shuffled(cells: list[str]) -> list[str]:
    """The same cells in another order."""
    return [cells[n] for n in np.random.default_rng(7).permutation(len(cells))]


@dataclass(frozen=True)
class Stops:
    """The run stops, and its error or its remedy has a phrase."""

    phrase: str


@dataclass(frozen=True)
class Warns:
    """The run warns, and the warning has a phrase."""

    phrase: str


SAME = "the metric of the twin"
HOUSES, SALES, LISTED = houses(300), sales(), houses(6000)
WORDS = ["north", "south", "east", "west", "hill", "lake", "park", "road"]
TWINS = {
    "houses": HOUSES,
    "sales": SALES,
    "codes": coded(*WORDS),
    "dates": parted(),
    "texts": described(words=False),
    "listed": LISTED,
}
PRICE = HOUSES.column("price")
DAYS = [f"2024-{1 + n // 28:02}-{1 + n % 28:02}" for n in range(300)]
ZURICH = HOUSES.with_cells("town", lambda town: town.replace("Genf", "Genève"))
LINES = HOUSES.text().splitlines(keepends=True)

# What one cell, or each cell, of a column of numbers is, and what the error says
ONE_CELL = {
    "question mark": ("?", "etl.missing=['?']"),
    "dash": ("-", "etl.missing=['-']"),
    "small n/a": ("n/a", "etl.missing=['n/a']"),
    "unknown": ("unknown", "etl.missing=['unknown']"),
    "x": ("x", "etl.missing=['x']"),
    "reference error": ("#REF!", "etl.missing=['#REF!']"),
    "infinity": ("inf", "inf"),
    "thousands": ("1,234.5", "etl.thousands=','"),
    "dollar": ("$5", "etl.parse={area: currency}"),
    "one percent": ("5%", "etl.parse={area: percent}"),
    "one unit": ("50 kg", "etl.parse={area: unit}"),
    "brackets": ("(5)", "etl.parse={area: number}"),
    "minus": ("\u22125", "etl.parse={area: number}"),
    "space": ("1 234", "etl.parse={area: number}"),
    "apostrophe": ("1'234", "etl.parse={area: number}"),
    "footnote": ("50.5*", "'50.5*'"),
    "zero width": ("50\u200b", "'50\\u200b'"),
    "half": ("½", "'½'"),
    "minus at the end": ("5-", "'5-'"),
    "Indian groups": ("1,23,456", "'1,23,456'"),
    "quotes in quotes": ("'50.5'", "\"'50.5'\""),
    "formula": ("=5+5", "'=5+5'"),
    "date in numbers": ("2024-01-31", "'2024-01-31'"),
}
EACH_CELL = {
    "decimal comma": (lambda cell: cell.replace(".", ","), "etl.decimal=','"),
    "euro": (lambda cell: f"€ {cell}", "etl.parse={area: currency}"),
    "percent": (lambda cell: f"{cell}%", "etl.parse={area: percent}"),
    "unit": (lambda cell: f"{cell} kg", "etl.parse={area: unit}"),
}
CODES = {
    "zip codes": [f"00{n}01" for n in range(1, 9)],
    "codes with E": [f"{n}E{9 - n}" for n in range(1, 9)],
    "account numbers": [f"{2**53 + n}" for n in range(8)],
    "longer than 64 bits": [f"{2**64 + n}" for n in range(8)],
    "codes with points": [f"{n}.{n}.0" for n in range(1, 9)],
    "01 beside 1": ["1", "01", "2", "02", "3", "03", "4", "04"],
}
DATE_FORMS = {
    "ISO dates": "%Y-%m-%d",
    "day first": "%d.%m.%Y",
    "month first": "%m/%d/%Y",
    "eight digits": "%Y%m%d",
    "timestamps": "%Y-%m-%d 12:30:00",
    "time zone": "%Y-%m-%dT12:30:00+01:00",
}
OF_HOUSES = {
    "equal rows": (Table(HOUSES.titles, [*HOUSES.rows] * 2), Warns("are equal to a training row")),
    "numbers 1 to n": (HOUSES.with_column("nr", counted(HOUSES)), SAME),
    "unnamed index": (HOUSES.with_column("", counted(HOUSES)), SAME),
    "shuffled id": (HOUSES.with_column("house_id", shuffled(counted(HOUSES))), SAME),
    "mixed units": (
        HOUSES.with_cells("area", lambda cell: f"{cell} {'kg' if cell > '50' else 'lb'}"),
        Warns("area: its cells are numbers with 'kg', 'lb'"),
    ),
    "durations": (
        HOUSES.with_column("walk", [f"{n % 60}:{n // 5:02}" for n in range(300)]),
        Stops("etl.parse={walk: duration}"),
    ),
    "few durations": (
        HOUSES.with_cells("area", lambda cell: f"{cell[:-2]}:{cell[-1]}0"),
        Warns("etl.parse={area: duration}"),
    ),
    "unique codes": (HOUSES.with_column("code", shuffled(counted(HOUSES, "H-{}X"))), SAME),
    "copy of the target": (HOUSES.with_column("paid", PRICE), Warns("paid alone predicts price")),
    "target in other units": (
        HOUSES.with_column("euros", [f"{float(cell) / 0.97:.2f}" for cell in PRICE]),
        Warns("euros alone predicts price"),
    ),
    "target as text": (
        HOUSES.with_column("label", [f"CHF {cell}.-" for cell in PRICE]),
        SAME,
    ),
    "constant": (HOUSES.with_column("country", ["CH"] * 300), SAME),
    "empty column": (HOUSES.with_column("note", [""] * 300), SAME),
    "outlier": (HOUSES.with_cell("area", "1e12"), Warns("1000000000000 (data row 4) is far")),
    "no value as nines": (HOUSES.with_cell("area", "-999"), Warns("-999 (data row 4) is far")),
    "outlier in the target": (
        HOUSES.with_cell("price", "1e12"),
        Warns("price: 1000000000000 (data row 4)"),
    ),
    "word in the target": (HOUSES.with_cell("price", "many"), Stops("'many' (data row 4)")),
    "question mark in the target": (HOUSES.with_cell("price", "?"), Stops("etl.missing=['?']")),
    "infinite target": (HOUSES.with_cell("price", "inf"), Stops("infinite values")),
    "missing targets": (HOUSES.with_cell("price", "").with_cell("price", "", 9), SAME),
    "missing numbers": (HOUSES.with_cell("area", ""), SAME),
    "repeated header": (HOUSES.with_row(*HOUSES.titles, at=150), Warns("repeat the header")),
    "second header": (HOUSES.with_row("", "m2", "", "", "CHF", at=0), Stops("'m2' (data row 1)")),
    "Orange's headers": (
        HOUSES.with_row("", "", "", "", "class", at=0).with_row(
            *["continuous", "continuous", "continuous", "discrete", "continuous"], at=0
        ),
        Warns("headers of Orange's"),
    ),
    "footer": (HOUSES.with_row("", "", "", "Total", "731000.5"), Warns("looks like a total")),
    "footer in numbers": (HOUSES.with_row("Total", "", "", "", "731000.5"), Stops("'Total'")),
    "same title twice": (HOUSES.titled("lot", "area", "area", "town", "price"), Stops("'area'")),
    "titles that become one": (
        HOUSES.titled("lot", "Area", "area", "town", "price"),
        Stops("all become ['area']"),
    ),
    "odd titles": (HOUSES.titled("Lot №", "Area (m²)", "# rooms", "Ort/Stadt", "price"), SAME),
    "comment sign": (HOUSES.titled("# lot", *HOUSES.titles[1:]), SAME),
    "spaces in titles": (HOUSES.titled(" lot", "area ", " rooms ", "town", " price"), SAME),
    "spaces around cells": (HOUSES.with_cells("town", lambda cell: f" {cell} "), SAME),
    "hard spaces": (HOUSES.with_cells("area", lambda cell: f"\u00a0{cell}\u00a0"), SAME),
    "spelling": (
        HOUSES.with_cells("town", lambda cell: cell.upper() if cell == "Bern" else cell)
        .with_cell("town", "Bern")
        .with_cell("town", "bern", 5),
        Warns("differ in case or spaces only"),
    ),
    "zero width in words": (
        HOUSES.with_column(
            "town", [f"{t}\u200b" * (n % 2) or t for n, t in enumerate(HOUSES.column("town"))]
        ),
        Warns("differ in case or spaces only"),
    ),
    "hard space in words": (
        HOUSES.with_column(
            "town", ["Bad" + " \u00a0"[n % 2] + t for n, t in enumerate(HOUSES.column("town"))]
        ),
        Warns("differ in case or spaces only"),
    ),
    "mixed booleans": (
        HOUSES.with_column("new", [["yes", "TRUE", "1", "no"][n % 4] for n in range(300)]),
        SAME,
    ),
    "full-width digits": (HOUSES.with_cells("rooms", lambda cell: chr(ord(cell) + 0xFEE0)), SAME),
    "customers": (
        HOUSES.with_column("customer_id", [f"C{n % 60}" for n in range(300)]),
        Warns("customer_id"),
    ),
    "time series": (HOUSES.with_column("day", DAYS), Warns("day is a date")),
    "one row": (Table(HOUSES.titles, HOUSES.rows[:1]), Stops("split.test_size")),
    "no rows": (Table(HOUSES.titles, []), Stops("no rows")),
    "integer target": (HOUSES.with_cells("price", lambda cell: f"{float(cell) / 60:.0f}"), SAME),
}
OF_TEXT = {
    "unclosed quote": (HOUSES.text().replace("Bern", '"Bern', 1), Stops("not closed")),
    "no titles": ("".join(LINES[1:]), Stops("etl.titles")),
    "lines above": (
        "Prices of houses\n\n" + HOUSES.text(),
        Stops("set etl.skip_lines to their number"),
    ),
    "separators at the end": (HOUSES.text().replace("\n", ",\n"), SAME),
    "separators at the end of rows": (
        LINES[0] + "".join(LINES[1:]).replace("\n", ",\n"),
        Stops("end no row with a separator"),
    ),
    "semicolons": (HOUSES.text(";"), Stops("set etl.sep=';'")),
    "tabs": (HOUSES.text("\t"), Stops("set etl.sep=")),
    "bars": (HOUSES.text("|"), Stops("set etl.sep='|'")),
    "latin-1": (ZURICH.text().encode("latin-1"), Stops("etl.encoding")),
    "utf-16": (ZURICH.text().encode("utf-16"), Stops("etl.encoding")),
    "byte order mark": (HOUSES.text().encode("utf-8-sig"), SAME),
    "carriage returns": (HOUSES.text().replace("\n", "\r\n"), SAME),
    "numbers in quotes": (HOUSES.text(quoting=csv.QUOTE_ALL), SAME),
    "longer line": (
        HOUSES.text().replace("\n", ",1\n", 9).replace(",1\n", "\n", 8),
        Stops("line 9"),
    ),
    "shorter line": ("".join([*LINES[:8], "0.5,40\n", *LINES[8:]]), SAME),
    "cut off": (HOUSES.text()[:-12], SAME),
    "blank lines": (HOUSES.text().replace("\n", "\n\n"), SAME),
    "line with the separator": ("sep=;\n" + HOUSES.text(";"), Stops("set etl.sep=';'")),
    "Mac's line ends": (HOUSES.text().replace("\n", "\r"), SAME),
    "zero byte": (HOUSES.text().replace("Bern", "Bern\0", 1), SAME),
    "two tables": (HOUSES.text() + "\n" + HOUSES.text(), Warns("repeat the header")),
    "web page": ("<!DOCTYPE html><html><body>Not here</body></html>", Stops("is a web page")),
    "empty file": ("", Stops("is an empty file")),
}
OF_SALES = {
    "spellings of a class": (
        SALES.with_column(
            "sold",
            [
                [cell, cell.upper(), cell.title()][n % 3]
                for n, cell in enumerate(SALES.column("sold"))
            ],
        ),
        Warns("sold: 'YES', 'Yes', 'yes' differ in case"),
    ),
    "total as a class": (SALES.with_row("", "", "", "Total"), Warns("looks like a total")),
    "question mark as a class": (SALES.with_cell("sold", "?"), Warns("look like missing values")),
    "class of one row": (SALES.with_cell("sold", "maybe"), Warns("maybe")),
    "truth values": (SALES.with_cells("sold", lambda cell: str(cell == "yes").upper()), SAME),
    "zero and one": (SALES.with_cells("sold", lambda cell: str(int(cell == "yes"))), SAME),
    "spaces in classes": (SALES.with_cells("sold", lambda cell: f" {cell}"), SAME),
    "codes as classes": (
        SALES.with_cells("sold", lambda cell: {"yes": "01", "no": "02"}[cell]),
        SAME,
    ),
    "class as a feature": (
        SALES.with_column("gone", SALES.column("sold")),
        Warns("gone alone predicts sold"),
    ),
    "class as a number": (
        SALES.with_column("gone", [f"{(cell == 'yes') * 100}" for cell in SALES.column("sold")]),
        Warns("gone alone predicts sold"),
    ),
    "rare class": (
        SALES.with_column("sold", ["yes" if n % 100 == 5 else "no" for n in range(320)]),
        Warns("fewer than 5 rows of a class: yes"),
    ),
    "one class": (SALES.with_cells("sold", lambda cell: "yes"), Stops("sold")),
    "missing classes": (SALES.with_cell("sold", ""), SAME),
    "persons": (SALES.with_column("patient", [f"P{n % 80}" for n in range(320)]), Warns("patient")),
}


@dataclass(frozen=True)
class Defect:
    """A table with one defect, the twin without it, and how the run has to end."""

    content: str | bytes
    twin: str
    expected: Stops | Warns | str
    overrides: tuple[str, ...] = ()


def defects() -> dict[str, Defect]:
    """All of them, by name."""
    tables = {
        name: (HOUSES.with_cell("area", cell), Stops(phrase))
        for name, (cell, phrase) in ONE_CELL.items()
    }
    tables |= {
        name: (HOUSES.with_cells("area", write), Stops(phrase))
        for name, (write, phrase) in EACH_CELL.items()
    }
    texts = {name: (table.text(), end) for name, (table, end) in (tables | OF_HOUSES).items()}
    named = {name: Defect(text, "houses", end) for name, (text, end) in (texts | OF_TEXT).items()}
    for name, (table, end) in OF_SALES.items():
        named[name] = Defect(table.text(), "sales", end)
    for name, codes in CODES.items():
        named[name] = Defect(coded(*codes).text(), "codes", SAME)
    for name, form in DATE_FORMS.items():
        named[name] = Defect(dated(form).text(), "dates", SAME)
    return named | {
        "NA the country": Defect(
            coded("NA", "CH", "DE", "FR", "IT", "AT", "BE", "NL").text(),
            "codes",
            Warns("cells 'NA' count as missing"),
        ),
        "free text": Defect(described(words=True).text(), "texts", SAME),
        "3,000 categories": Defect(
            LISTED.with_column("product", shuffled([f"P{n % 3000}" for n in range(6000)])).text(),
            "listed",
            SAME,
        ),
        "numbers for a classifier": Defect(
            HOUSES.text(), "houses", Stops("use model=auto"), ("model=random_forest",)
        ),
        "truth for a regressor": Defect(
            SALES.with_cells("sold", lambda cell: str(cell == "yes")).text(),
            "sales",
            Stops("use model=auto"),
            ("model=random_forest_regressor",),
        ),
    }


DEFECTS = defects()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("tables"))


def target(twin: str) -> str:
    """The column to predict of a twin and of its tables."""
    return TWINS[twin].titles[-1]


@pytest.fixture(scope="module")
def metric_of_twin(checkout: Checkout) -> Callable[[str], float]:
    """The metric of a twin, which is run once, and about which nothing is wrong."""

    @cache
    def measured(twin: str) -> float:
        done = run(checkout, TWINS[twin].text(), target(twin))
        assert done.status == 0, done.err
        assert warnings(done) == []
        return metric(done)

    return measured


def metric(done: Finished) -> float:
    """The metric by which a run is compared with that of the twin."""
    metrics = done.summary["metrics"]
    return metrics["f1"] if "f1" in metrics else metrics["r2"]


def warnings(done: Finished) -> list[str]:
    """The warnings in a run's record."""
    notes = [note for step in done.summary["steps"].values() for note in step.get("notes", [])]
    return [note["text"] for note in notes if note["warning"]]


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_a_defect(
    checkout: Checkout, metric_of_twin: Callable[[str], float], defect: Defect
) -> None:
    done = run(checkout, defect.content, target(defect.twin), *defect.overrides)
    printed, expected = done.out + done.err, defect.expected
    assert "Traceback" not in printed
    if isinstance(expected, Stops):
        assert done.status == 1, printed
        error = done.err[done.err.index("error: ") :]
        assert expected.phrase in error
        assert len([line for line in error.splitlines() if not line.startswith("full log")]) > 1
        return
    assert done.status == 0, printed
    if isinstance(expected, Warns):
        said = [text for text in warnings(done) if expected.phrase in text]
        assert said, printed
        assert f"warning: {said[0]}" in printed
        return
    assert abs(metric(done) - metric_of_twin(defect.twin)) <= NEAR, printed
