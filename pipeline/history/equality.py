"""Are two results the same? Item by item: identical, equal within a tolerance, or how different."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

IDENTICAL, EQUAL, DIFFERENT = "identical", "equal within tolerance", "different"


@dataclass(frozen=True)
class Item:
    """What became of one thing that a step made.

    Attributes:
        step: the step.
        name: the artifact's, metric's or table's.
        outcome: ``identical``, ``equal within tolerance`` or ``different``.
        detail: its value, or in what it differs.
    """

    step: str
    name: str
    outcome: str
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether it was reproduced."""
        return self.outcome != DIFFERENT


def number(step: str, name: str, before: float, now: float, tolerance: float) -> Item:
    """A metric."""
    if before == now or (math.isnan(before) and math.isnan(now)):
        return Item(step, name, IDENTICAL, f"{now:.6g}")
    outcome = EQUAL if math.isclose(before, now, rel_tol=tolerance) else DIFFERENT
    return Item(step, name, outcome, f"{before!r} -> {now!r} ({now - before:+.3g})")


def table(step: str, name: str, before: str, now: str, tolerance: float) -> Item:
    """A table as CSV, cell by cell."""
    if before == now:
        return Item(step, name, IDENTICAL, f"{max(before.count(chr(10)) - 1, 0)} rows")
    old, new = (list(csv.reader(io.StringIO(text))) for text in (before, now))
    if old[:1] != new[:1]:
        return Item(step, name, DIFFERENT, f"columns {_columns(old)} -> {_columns(new)}")
    if len(old) != len(new):
        return Item(step, name, DIFFERENT, f"{len(old) - 1} rows -> {len(new) - 1}")
    pairs = [(row, _cells(old[0], a, b, tolerance)) for row, (a, b) in enumerate(zip(old, new))]  # noqa: B905
    changed = [(row, cells) for row, cells in pairs if cells]
    if not changed:
        return Item(step, name, EQUAL, f"{len(old) - 1} rows")
    row, cells = changed[0]
    first = f"first in row {row}: {cells[0]}"
    return Item(step, name, DIFFERENT, f"{len(changed)} of {len(old) - 1} rows; {first}")


def _columns(rows: list[list[str]]) -> str:
    return ", ".join(rows[0]) if rows else "(none)"


def _cells(names: list[str], old: list[str], new: list[str], tolerance: float) -> list[str]:
    """The cells that differ by more than the tolerance."""
    triples = zip_longest(names, old, new, fillvalue="")
    return [f"{name} {a} -> {b}" for name, a, b in triples if not _close(a, b, tolerance)]


def _close(old: str, new: str, tolerance: float) -> bool:
    if old == new:
        return True
    try:
        return math.isclose(float(old), float(new), rel_tol=tolerance)
    except ValueError:
        return False


def lock(step: str, before: list[str], now: list[str]) -> Item:
    """The packages that a step ran with."""
    changes = lock_changes(before, now)
    if changes:
        return Item(step, "environment", DIFFERENT, "; ".join(changes))
    return Item(step, "environment", IDENTICAL, f"{len(versions(now)) - 1} packages")


def lock_changes(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Each package whose version differs, and the interpreter if it does."""
    old, new = versions(before), versions(now)
    return [
        f"{name} {old.get(name, '(none)')} -> {new.get(name, '(none)')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def versions(lines: Iterable[str]) -> dict[str, str]:
    """The versions in a lock, by name; the interpreter's line counts as one."""
    found = {}
    for line in lines:
        name, _, version = line.partition("==")
        if line.startswith("# Python "):
            found["Python"] = line.removeprefix("# Python ")
        elif version:
            found[name] = version
    return found


def unmatched(step: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Item]:
    """What only one side has."""
    gone = [Item(step, name, DIFFERENT, "was not made again") for name in before if name not in now]
    new = [Item(step, name, DIFFERENT, "was not made before") for name in now if name not in before]
    return gone + new
