"""Compares a step's metrics, tables and packages in two runs."""

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
    """The comparison of one result of a step.

    Attributes:
        step: the step.
        name: the name of the artifact, metric or table.
        outcome: ``identical``, ``equal within tolerance`` or ``different``.
        detail: its value, or the difference.
    """

    step: str
    name: str
    outcome: str
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the result was reproduced."""
        return self.outcome != DIFFERENT


def number(step: str, name: str, before: float, now: float, tolerance: float) -> Item:
    """Compare two values of a metric."""
    if before == now or (math.isnan(before) and math.isnan(now)):
        return Item(step, name, IDENTICAL, f"{now:.6g}")
    outcome = EQUAL if math.isclose(before, now, rel_tol=tolerance) else DIFFERENT
    return Item(step, name, outcome, f"{before!r} -> {now!r} ({now - before:+.3g})")


def table(step: str, name: str, before: str, now: str, tolerance: float) -> Item:
    """Compare two tables, given as CSV, cell by cell."""
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
    """Compare the locks of a step's packages."""
    changes = lock_changes(before, now)
    if changes:
        return Item(step, "environment", DIFFERENT, "; ".join(changes))
    return Item(step, "environment", IDENTICAL, f"{len(versions(now)) - 1} packages")


def lock_changes(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Each package whose version differs, including the interpreter."""
    old, new = versions(before), versions(now)
    return [
        f"{name} {old.get(name, '(none)')} -> {new.get(name, '(none)')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def versions(lines: Iterable[str]) -> dict[str, str]:
    """The versions in a lock by package; ``Python`` is the interpreter."""
    package_versions = {}
    for line in lines:
        name, _, version = line.partition("==")
        if line.startswith("# Python "):
            package_versions["Python"] = line.removeprefix("# Python ")
        elif version:
            package_versions[name] = version
    return package_versions


def unmatched(step: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Item]:
    """An item for each name that only one of the two runs has."""
    pairs = [(before, now, "missing in the new run"), (now, before, "missing in the recorded run")]
    return [
        Item(step, name, DIFFERENT, detail)
        for names, other, detail in pairs
        for name in names
        if name not in other
    ]
