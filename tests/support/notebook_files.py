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

# A notebook whose command runs its script twice, as DVC before 1.0 took it
PARTS = [
    '''"""Part the prices.

:param str part: which one
:param str input_file: all prices
:param str output_file: the part
:param int rows: rows of the first part
:dvc-cmd: dvc run --overwrite-dvcfile -f dvc/parts.dvc -d $MLV_PY_CMD_PATH -d ./data/prices.csv
    -o ./data/first.csv -o "./data/the rest.csv" --ignore-build-cache
    "$MLV_PY_CMD_PATH --rows 2 --part first --input-file ./data/prices.csv
      --output-file ./data/first.csv &&
     $MLV_PY_CMD_PATH --rows 2 --part rest --input-file ./data/prices.csv
      --output-file './data/the rest.csv'"
"""
part, input_file = "first", "../data/prices.csv"
''',
    "import pandas as pd\nfrom helpers.rows import chosen",
    "chosen(pd.read_csv(input_file), part, rows).to_csv(output_file, index=False)",
]
HELPERS = "def chosen(t, part, rows):\n    return t[:rows] if part == 'first' else t[rows:]\n"


def parts(path: Path) -> Path:
    """That notebook, and the module that it imports from the folder beside it."""
    (path.parent / "helpers").mkdir(parents=True)
    (path.parent / "helpers" / "__init__.py").touch()
    (path.parent / "helpers" / "rows.py").write_text(HELPERS)
    return write(path, *PARTS)


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
