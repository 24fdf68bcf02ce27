"""Tables of a user's own, through main.py."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from tests.support.runs import Checkout, Finished

TOWNS = ["Bern", "Genf", "Thun", "Visp"]
ADJECTIVES = ["sunny", "quiet", "bright", "large", "old", "new", "small", "modern", "rare", "fine"]


def run(checkout: Checkout, content: str | bytes, target: str, *overrides: str) -> Finished:
    """main.py on a table of one's own."""
    path = checkout.home / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    named = [f"data.file_url={path.as_uri()}", f"model.target={target}"]
    return checkout.run("data=csv", *named, "model.params.n_estimators=10", *overrides)


@dataclass(frozen=True)
class Table:
    """Titles and rows of text, from which other tables are made."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]

    def column(self, title: str) -> list[str]:
        """The cells of a column."""
        return [row[self.titles.index(title)] for row in self.rows]

    def with_cell(self, title: str, cell: str, row: int = 3) -> Self:
        """The table with another cell in one row."""
        cells = self.column(title)
        return self.with_column(title, [*cells[:row], cell, *cells[row + 1 :]])

    def with_cells(self, title: str, write: Callable[[str], str]) -> Self:
        """The table with all cells of a column written in another way."""
        return self.with_column(title, map(write, self.column(title)))

    def with_column(self, title: str, cells: Iterable[str]) -> Self:
        """The table with a column replaced, or with a new first one."""
        if title not in self.titles:
            rows = [[cell, *row] for cell, row in zip(cells, self.rows, strict=True)]
            return type(self)([title, *self.titles], rows)
        place = self.titles.index(title)
        rows = [
            [*row[:place], cell, *row[place + 1 :]]
            for cell, row in zip(cells, self.rows, strict=True)
        ]
        return replace(self, rows=rows)

    def with_row(self, *cells: str, at: int | None = None) -> Self:
        """The table with one more row, by default the last one."""
        at = len(self.rows) if at is None else at
        return replace(self, rows=[*self.rows[:at], cells, *self.rows[at:]])

    def titled(self, *titles: str) -> Self:
        """The table with other titles."""
        return replace(self, titles=titles)

    def text(self, sep: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> str:
        """The table as CSV."""
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter=sep, quoting=quoting, lineterminator="\n")
        writer.writerows([self.titles, *self.rows])
        return stream.getvalue()


def houses(count: int) -> Table:
    """Prices that go by three columns, and a number that says nothing."""
    draw = np.random.default_rng(1)
    rows = []
    for _ in range(count):
        lot, area = draw.random(), 6 * draw.integers(10, 22)
        rooms, town = draw.integers(0, 3), draw.integers(0, 4)
        price = 20 * area + 50 * rooms + 300 * town + draw.normal()
        rows.append([f"{lot:.5f}", f"{area / 2}", f"{rooms + 1}", TOWNS[town], f"{price:.2f}"])
    return Table(["lot", "area", "rooms", "town", "price"], rows)


def sales() -> Table:
    """Sales that go by two columns together, and a number that says nothing."""
    draw = np.random.default_rng(2)
    rows = []
    for number in range(320):
        size, town = number % 4, number // 4 % 4
        sold = "yes" if (size > 1) == (town > 1) else "no"
        rows.append([f"{draw.random():.5f}", f"{size + 0.5}", TOWNS[town], sold])
    return Table(["lot", "size", "town", "sold"], [rows[n] for n in draw.permutation(320)])


def coded(*codes: str) -> Table:
    """Prices that go by a code, but not by the order of the codes."""
    draw = np.random.default_rng(3)
    numbers = draw.permutation(np.arange(320) % len(codes))
    price = draw.permutation(len(codes)) * 100
    rows = [[f"{draw.random():.5f}", codes[n], f"{price[n] + draw.normal():.2f}"] for n in numbers]
    return Table(["lot", "code", "price"], rows)


def dated(form: str) -> Table:
    """Prices that go by the month and the day of a date."""
    draw = np.random.default_rng(4)
    days = np.datetime64("2023-01-01") + draw.integers(0, 365, 320)
    rows = []
    for day in days.tolist():
        price = 100 * day.month + 5 * day.day + draw.normal()
        rows.append([f"{draw.random():.5f}", day.strftime(form), f"{price:.2f}"])
    return Table(["lot", "day", "price"], rows)


def parted() -> Table:
    """The same prices, with the date in two columns of numbers."""
    table = dated("%m-%d")
    rows = [[lot, *map(str, map(int, day.split("-"))), price] for lot, day, price in table.rows]
    return Table(["lot", "month", "nth", "price"], rows)


def described(words: bool) -> Table:
    """Prices that go by what a house has: in columns, or in sentences."""
    draw = np.random.default_rng(5)
    rows = []
    for _ in range(320):
        garden, pool = draw.integers(0, 2, 2)
        price = 300 * garden + 700 * pool + draw.normal()
        said = [*draw.choice(ADJECTIVES, 4), *["garden"] * garden, *["pool"] * pool, "house"]
        has = [" ".join(draw.permutation(said))] if words else [str(garden), str(pool)]
        rows.append([f"{draw.random():.5f}", *has, f"{price:.2f}"])
    return Table(["lot", *(["about"] if words else ["garden", "pool"]), "price"], rows)
