"""A fast path for cells that are certainly valid, without pandas and pandera.

For a few rows, pandas and pandera take far longer than the model. So each column has a reader that
is built once per model. For cells that break no rule it gives the same values as
:meth:`pipeline.models.scoring.LoadedModel.typed`. Other rows take the slow path, which also
reports what is wrong.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.science.data.tables import EXACT

# Integers of up to 15 digits are exact as floats, whatever dtype pandas gives the column.
NUMBER = re.compile(r"-?([0-9]{1,15}|[0-9]{1,20}\.[0-9]{1,20}([eE][+-]?[0-9]{1,3})?)")
LARGEST = float(np.finfo("float32").max)  # scikit-learn's trees accept no larger number
TRUTHS: dict[str | None, bool] = {"True": True, "true": True, "False": False, "false": False}


class Columns:
    """Reads the features of a model.

    Args:
        kinds: the kind of each feature (:func:`pipeline.science.training.feature_kinds`).
        cleaning: the settings of 2-ETL.
    """

    def __init__(self, kinds: Mapping[str, str], cleaning: Mapping[str, Any]):
        self._columns = {name: _Column(name, kind, cleaning) for name, kind in kinds.items()}

    def read(self, cells: Mapping[str, Sequence[str | None]]) -> tuple[pd.DataFrame, np.ndarray]:
        """The features, and a mask of the valid rows; the values of other rows are undefined."""
        features, valid = {}, np.array(True)
        for name, column in self._columns.items():
            features[name], column_valid = column.read(cells[name])
            valid = valid & column_valid
        return pd.DataFrame(features), valid


class _Column:
    """Reads one feature."""

    def __init__(self, name: str, kind: str, cleaning: Mapping[str, Any]):
        rules = [rule for rule in cleaning.get("schema") or [] if rule["column"] == name]
        fill, required = cleaning.get("fill") or {}, cleaning.get("required")
        self._kind, self._rule = kind, rules[0] if rules else {}
        self._missing = {"", *(cleaning.get("missing") or [])}
        self._fill = str(fill[name]) if name in fill else None
        is_required = name not in fill if required is None else name in required
        not_nullable = bool(rules) and not self._rule.get("nullable", False)
        self._nullable = not (is_required or not_nullable or kind == "truth")
        missing_are_text = all(isinstance(text, str) for text in self._missing)
        self._readable = missing_are_text and len(rules) <= 1 and _checkable(kind, self._rule)

    def read(self, cells: Sequence[str | None]) -> tuple[Any, np.ndarray]:
        """The values of the cells, and a mask of the valid cells."""
        if not self._readable:
            return cells, np.zeros(len(cells), bool)
        texts = [None if cell is None else cell.strip(" ") for cell in cells]
        texts = [self._fill if text is None or text in self._missing else text for text in texts]
        convert = {"number": self._numbers, "text": self._texts}.get(self._kind, self._truths)
        values, valid = convert(texts)
        gaps = np.array([text is None for text in texts])
        # pandas also strips white space other than " ": leave such cells to the slow path
        printable = np.array([cell is None or cell.isprintable() for cell in cells])
        return values, printable & np.where(gaps, self._nullable, valid)

    def _numbers(self, texts: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
        numbers = [text if text and NUMBER.fullmatch(text) else np.nan for text in texts]
        values = pd.to_numeric(np.array(numbers, object)).astype("float64")
        valid, rule = np.abs(values) <= LARGEST, self._rule
        if rule.get("min") is not None:
            valid &= values >= rule["min"]
        if rule.get("max") is not None:
            valid &= values <= rule["max"]
        if rule.get("values") is not None:
            valid &= np.isin(values, rule["values"])
        if rule.get("dtype") == "int":
            valid &= (np.abs(values) < EXACT) & (values == np.trunc(values))
        return values, valid

    def _texts(self, texts: list[str | None]) -> tuple[Any, np.ndarray]:
        allowed = self._rule.get("values")
        return pd.array(texts, "str"), np.array(
            [allowed is None or text in allowed for text in texts]
        )

    def _truths(self, texts: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
        values = [TRUTHS.get(text, np.nan) for text in texts]
        return np.array(values, object), np.array([text in TRUTHS for text in texts])


def _checkable(kind: str, rule: Mapping[str, Any]) -> bool:
    """Whether this module can check a column's rule."""
    limits = [rule[key] for key in ("min", "max") if rule.get(key) is not None]
    values = rule.get("values") or []
    if kind == "number":
        all_numbers = all(type(value) in (int, float) for value in [*limits, *values])
        return all_numbers and rule.get("dtype") in (None, "int", "float")
    if kind == "text":
        all_texts = all(isinstance(value, str) for value in values)
        return all_texts and not limits and rule.get("dtype") in (None, "str")
    return not limits and not values and rule.get("dtype") in (None, "bool")
