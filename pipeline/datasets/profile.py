"""Writes a page about a table's columns: values, gaps, distributions and associations."""

import html
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.core.files import write_whole
from pipeline.core.settings import state_dir

ROWS = 100_000  # a larger table is sampled
MISSING = "no profile page, which needs skrub: pip install skrub, then init again with --force"


def write(table: pd.DataFrame, name: str, decisions: Sequence[str]) -> str:
    """Write the page if skrub is installed; return a line with its path or the remedy.

    Args:
        table: the table in the types of training.
        name: the data set's name.
        decisions: the lines that init prints.
    """
    if importlib.util.find_spec("skrub") is None:
        return MISSING
    from skrub import TableReport

    sampled = table.sample(ROWS, random_state=0).sort_index() if len(table) > ROWS else table
    page = TableReport(sampled, title=name, verbose=0).html()
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in decisions)
    row_count = f" ({len(sampled)} of {len(table)} rows)" if len(sampled) < len(table) else ""
    summary = f"<h1>{html.escape(name)}{row_count}</h1><h2>Decisions</h2><ul>{lines}</ul>"
    head_html, body, tail_html = page.partition("<body>")
    path = state_dir() / "profiles" / f"{name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{head_html}{body}{summary}{tail_html}")
    return f"profile: {_relative(path)}"


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
