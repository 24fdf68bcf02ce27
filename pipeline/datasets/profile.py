"""A page that shows each column of a table: values, gaps, distributions, associations."""

import html
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.core.files import write_whole
from pipeline.core.settings import state_dir

ROWS = 100_000  # of a larger table so many are drawn
NEEDED = "no profile page, which needs skrub: pip install skrub, then init again with --force"


def write(table: pd.DataFrame, name: str, decided: Sequence[str]) -> str:
    """Write the page, if skrub is there; a line that says where it is, or how to get it.

    Args:
        table: in the types that training has.
        name: the data set's.
        decided: what init has decided about it, a line each.
    """
    if importlib.util.find_spec("skrub") is None:
        return NEEDED
    from skrub import TableReport

    shown = table.sample(ROWS, random_state=0).sort_index() if len(table) > ROWS else table
    page = TableReport(shown, title=name, verbose=0).html()
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in decided)
    rest = f" ({len(shown)} of {len(table)} rows)" if len(shown) < len(table) else ""
    head = f"<h1>{html.escape(name)}{rest}</h1><h2>Decisions</h2><ul>{lines}</ul>"
    before, body, after = page.partition("<body>")
    path = state_dir() / "profiles" / f"{name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{before}{body}{head}{after}")
    return f"profile: {_shown(path)}"


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
