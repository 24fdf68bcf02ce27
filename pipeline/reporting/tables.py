"""Tables that commands print: as wide as the terminal, or as JSON, CSV or Markdown."""

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
    """How a command prints what it has found.

    Attributes:
        format: one of :data:`FORMATS`.
        wide: nothing is cut or left out, however long the lines become.
    """

    format: str = "table"
    wide: bool = False


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--wide`` and ``--format``, as its argument ``output``."""

    @click.option("--wide", is_flag=True, help="cut nothing, and leave nothing out")
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


def as_text(rows: Sequence[Mapping[str, Any]], form: str) -> str:
    """Rows for programs; in CSV and Markdown a mapping of numbers has a column for each."""
    if form == "json":
        return json.dumps([*map(_finite, rows)], indent=2, ensure_ascii=False) + "\n"
    lines = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for line in lines for name in line))
    if form == "markdown":
        return markdown(names, [[line.get(name, "") for name in names] for line in lines])
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def markdown(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown, whose cells are text."""
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)


def _plain(cell: Any) -> str:
    """A cell that neither ends its row or its column, nor is a tag or a link."""
    text = " ".join(printable("" if cell is None else cell).split())
    for sign in "\\|<[*_`":
        text = text.replace(sign, f"\\{sign}")
    return text


def _finite(value: Any) -> Any:
    """A value that JSON can hold: numbers that are not finite are null."""
    match value:
        case Mapping():
            return {key: _finite(part) for key, part in value.items()}
        case list() | tuple():
            return [*map(_finite, value)]
        case float() if not math.isfinite(value):
            return None
    return value


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping) and all(isinstance(v, int | float) for v in value.values()):
            found |= {f"{name}.{key}": part for key, part in value.items()}
        else:
            found[name] = _cell(value)
    return found


def _cell(value: Any) -> Any:
    """Lists and mappings as text; a pair is a change."""
    match value:
        case Mapping():
            return "; ".join(f"{key} {_cell(part)}" for key, part in value.items())
        case tuple():
            return " -> ".join(map(str, value))
        case list():
            return "; ".join(map(str, value))
    return value
