"""The files of a logged model that are read again: their names, and one digest of them all."""

import json
from pathlib import Path
from typing import Any

from pipeline.core.files import combined_digest, file_digest

FILE = "model.skops"  # as MLflow's flavor names it
PREPARATION = "preparation.json"  # beside the model: how raw rows become its features
CODE = ("cleaning.py", "tables.py", "cells.py")  # beside it: what cleaned the training data

# Where they are, below the folder; the rest is for people and for MLflow.
FILES = (FILE, "requirements.txt", f"extra_files/{PREPARATION}")
CODE_FILES = tuple(f"extra_files/{name}" for name in CODE)  # earlier models have none


def preparation(folder: Path) -> dict[str, Any]:
    """How raw rows become the features of the model in a folder.

    Raises:
        OSError: the file is missing.
    """
    told: dict[str, Any] = json.loads((folder / "extra_files" / PREPARATION).read_text("utf-8"))
    return told


def digest(folder: Path) -> str:
    """One digest of all that is read of a logged model.

    Raises:
        OSError: a file is missing.
    """
    code = [name for name in CODE_FILES if (folder / name).is_file()]
    return combined_digest({name: file_digest(folder / name) for name in (*FILES, *code)})
