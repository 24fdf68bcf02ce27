"""Reads cells that are valid beyond doubt, without pandas' work for each request.

For a few rows, pandas and pandera take far longer than the model. So each column has a reader,
built once for a model, that gives what :meth:`pipeline.models.scoring.Loaded.typed` gives for cells
that break no rule. Rows with any other cell go the usual way, which also says what is wrong.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.science.data.tables import EXACT

# Up to 15 digits are exact as a float, however pandas reads the cells beside them.
NUMBER = re.compile(r"-?([0-9]{1,15}|[0-9]{1,20}\.[0-9]{1,20}([eE][+-]?[0-9]{1,3})?)")
LARGEST = float(np.finfo("float32").max)  # scikit-learn's trees take no larger number
TRUTHS = {"True": True, "true": True, "False": False, "false": False}


class Columns:
    """Reads the features of a model.

    Args:
        kinds: what each feature holds (:func:`pipeline.science.training.feature_kinds`).
        cleaning: the settings of 2-ETL.
    """

    def __init__(self, kinds: Mapping[str, str], cleaning: Mapping[str, Any]):
        self._columns = {name: _Column(name, kind, cleaning) for name, kind in kinds.items()}

    def read(self, cells: Mapping[str, Sequence[str | None]]) -> tuple[pd.DataFrame, np.ndarray]:
        """The features of rows, and which of the rows are valid; others have no right values."""
        features, valid = {}, np.True_
        for name, column in self._columns.items():
            features[name], well = column.read(cells[name])
            valid = valid & well
        return pd.DataFrame(features), valid


class _Column:
    """Reads one feature."""

    def __init__(self, name: str, kind: str, cleaning: Mapping[str, Any]):
        rules = [rule for rule in cleaning.get("schema") or [] if rule["column"] == name]
        fill, required = cleaning.get("fill") or {}, cleaning.get("required")
        self._kind, self._rule = kind, rules[0] if rules else {}
        self._missing = {"", *(cleaning.get("missing") or [])}
        self._fill = str(fill[name]) if name in fill else None
        needed = name not in fill if required is None else name in required
        strict = bool(rules) and not self._rule.get("nullable", False)
        self._may_be_gap = not (needed or strict or kind == "truth")
        words = all(isinstance(word, str) for word in self._missing)
        self._readable = words and len(rules) <= 1 and _checkable(kind, self._rule)

    def read(self, cells: Sequence[str | None]) -> tuple[Any, np.ndarray]:
        """The values of cells, and which of the cells are valid."""
        if not self._readable:
            return cells, np.zeros(len(cells), bool)
        words = [None if cell is None else cell.strip(" ") for cell in cells]
        words = [self._fill if word is None or word in self._missing else word for word in words]
        read = {"number": self._numbers, "text": self._texts}.get(self._kind, self._truths)
        values, valid = read(words)
        gaps = np.array([word is None for word in words])
        # Other white space than " " is stripped by pandas, and its idea of that is its own
        plain = np.array([cell is None or cell.isprintable() for cell in cells])
        return values, plain & np.where(gaps, self._may_be_gap, valid)

    def _numbers(self, words: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
        numbers = [word if word and NUMBER.fullmatch(word) else np.nan for word in words]
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

    def _texts(self, words: list[str | None]) -> tuple[Any, np.ndarray]:
        known = self._rule.get("values")
        return pd.array(words, "str"), np.array([known is None or word in known for word in words])

    def _truths(self, words: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
        values = [TRUTHS.get(word, np.nan) for word in words]
        return np.array(values, object), np.array([word in TRUTHS for word in words])


def _checkable(kind: str, rule: Mapping[str, Any]) -> bool:
    """Whether a column's rule is one that is checked here."""
    limits = [rule[key] for key in ("min", "max") if rule.get(key) is not None]
    values = rule.get("values") or []
    if kind == "number":
        numbers = all(type(one) in (int, float) for one in [*limits, *values])
        return numbers and rule.get("dtype") in (None, "int", "float")
    if kind == "text":
        words = all(isinstance(one, str) for one in values)
        return words and not limits and rule.get("dtype") in (None, "str")
    return not limits and not values and rule.get("dtype") in (None, "bool")
