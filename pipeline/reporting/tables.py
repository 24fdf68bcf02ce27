"""Tables that commands print: for the terminal, or as JSON, CSV or Markdown."""

import csv
import functools
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from pipeline.core.text import printable

FORMATS = ("table", "json", "csv", "markdown")


@dataclass(frozen=True)
class Output:
    """How a command prints its table.

    Attributes:
        format: one of :data:`FORMATS`.
        wide: print all columns and full cells, however long the lines are.
    """

    format: str = "table"
    wide: bool = False


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--wide`` and ``--format`` to a command, as its argument ``output``."""

    @click.option("--wide", is_flag=True, help="print all columns and full cells")
    @click.option("--format", type=click.Choice(FORMATS), default="table", help="how to print it")
    @functools.wraps(command)
    def with_output(
        *,
        wide: bool,
        format: str,  # noqa: A002 - named as the option
        **values: Any,
    ) -> Any:
        return command(output=Output(format, wide), **values)

    return with_output


def as_text(rows: Sequence[Mapping[str, Any]], output_format: str) -> str:
    """Rows for programs; CSV and Markdown expand a mapping of numbers into columns."""
    if output_format == "json":
        return json.dumps([*map(_finite, rows)], indent=2, ensure_ascii=False) + "\n"
    lines = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for line in lines for name in line))
    if output_format == "markdown":
        return markdown(names, [[line.get(name, "") for name in names] for line in lines])
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def markdown(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; cells are escaped."""
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)


def _plain(cell: Any) -> str:
    """Escape a cell for a Markdown table."""
    text = " ".join(printable("" if cell is None else cell).split())
    for sign in "\\|<[*_`":
        text = text.replace(sign, f"\\{sign}")
    return text


def _finite(value: Any) -> Any:
    """A value for JSON: numbers that are not finite become null."""
    match value:
        case Mapping():
            return {key: _finite(part) for key, part in value.items()}
        case list() | tuple():
            return [*map(_finite, value)]
        case float() if not math.isfinite(value):
            return None
    return value


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping) and all(isinstance(v, int | float) for v in value.values()):
            cells |= {f"{name}.{key}": part for key, part in value.items()}
        else:
            cells[name] = _cell(value)
    return cells


def _cell(value: Any) -> Any:
    """Lists and mappings as text; a tuple is a change from one value to another."""
    match value:
        case Mapping():
            return "; ".join(f"{key} {_cell(part)}" for key, part in value.items())
        case tuple():
            return " -> ".join(map(str, value))
        case list():
            return "; ".join(map(str, value))
    return value
