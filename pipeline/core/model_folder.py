"""The files of a logged model that the pipeline reads: their names and their digest."""

import json
from pathlib import Path
from typing import Any

from pipeline.core.files import combined_digest, file_digest

FILE = "model.skops"  # the name that MLflow's flavor uses
PREPARATION = "preparation.json"  # beside the model: how raw rows become its features
CODE = ("cleaning.py", "tables.py", "cells.py")  # beside the model: the cleaning code

# Paths below the model folder; all other files are for MLflow and for people.
FILES = (FILE, "requirements.txt", f"extra_files/{PREPARATION}")
CODE_FILES = tuple(f"extra_files/{name}" for name in CODE)  # missing in earlier models


def preparation(folder: Path) -> dict[str, Any]:
    """How raw rows become the features of the model in a folder.

    Raises:
        OSError: the file is missing.
    """
    content: dict[str, Any] = json.loads((folder / "extra_files" / PREPARATION).read_text("utf-8"))
    return content


def digest(folder: Path) -> str:
    """One digest of all files of a logged model that the pipeline reads.

    Raises:
        OSError: a file is missing.
    """
    code = [name for name in CODE_FILES if (folder / name).is_file()]
    return combined_digest({name: file_digest(folder / name) for name in (*FILES, *code)})
