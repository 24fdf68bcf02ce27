"""Notebooks written for a test."""

from pathlib import Path

import nbformat
from nbformat import v4

DECLARED = '''"""Average the prices of each town.

:param str input_file: the table, 100% of it
:param output_file: the averages
:param int digits: digits kept
:param List[str] drop: columns to leave out
:param bool sort: by price
:dvc-in input_file: ./data/prices.csv
:dvc-out output_file: ./data/averages.csv
:dvc-extra: --digits {{ conf.digits }} --drop id --sort true
"""
'''
VALUES = """import os
input_file = "data/prices.csv"
output_file: str = "data/averages.csv"
digits, drop, sort = 2, ["id"], True
"""
TEXT = 'TEXT = """\n%kept\n"""\nrest = (5\n% 3)'
WORK = """import pandas as pd


def rounded(table, digits):
    \"\"\"Round, and say
so.\"\"\"
    return table.round(digits)


def shown():
    return TEXT.strip()


table = pd.read_csv(input_file).drop(columns=drop)
means = table.groupby("town", sort=sort).mean().reset_index()
"""
WRITE = "rounded(means, digits).to_csv(output_file, index=False)\nprint(shown(), os.sep, rest)"


def write(path: Path, *cells: str) -> Path:
    """A notebook of these cells; those that begin with ``#`` and a space and ``Md`` are text."""
    book = v4.new_notebook()
    for cell in cells:
        text = cell.startswith("# Md")
        book.cells.append((v4.new_markdown_cell if text else v4.new_code_cell)(cell))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


def prices(path: Path) -> Path:
    """A notebook with all that a notebook may have."""
    return write(
        path,
        "# Md Mean prices",
        f"# a comment first\n{DECLARED}{VALUES}",
        f"%matplotlib inline\n{TEXT}\nif digits:\n    !echo \"it's (\n!ls \\\n  -l",
        WORK,
        "# No effect\nmeans.plot()",
        "%%bash\nls",
        f"%%time\n{WRITE}",
    )
