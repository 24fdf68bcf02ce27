"""Predictions for raw rows: a model with the cleaning of its training data.

This module runs in the model's own environment, so it imports little: no MLflow, no tracker.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import accumulate, chain, islice, pairwise, starmap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.ensemble._forest import ForestClassifier, ForestRegressor

from pipeline.core import model_folder
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.settings import ROOT
from pipeline.models.cells import LARGEST, Columns
from pipeline.science import model_files
from pipeline.science.data import cleaning as cleaner
from pipeline.science.data.tables import read_cells, read_table

PREDICTION, PROBABILITY, REASON = "prediction", "probability", "reason"
MISTYPED = "breaks dtype"
SHOWN = 40  # characters of an invalid value in a reason
FEW = 1000  # rows; below, joblib's overhead is larger than the time of a forest's trees
Cells = dict[str, list[str | None]]  # by feature, the cells as text, as in a CSV file
Records = list[dict[str, Any]]  # predictions and probabilities by row


@cache
def allowed_packages() -> frozenset[str]:
    """The packages in ``model.allowed``, in all of this checkout's configuration files."""
    default = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["model"]
    files = [yaml.safe_load(p.read_text(encoding="utf-8")) for p in ROOT.glob("conf/model/*.yaml")]
    models = (default, *(content.get("model", content) for content in files))
    return frozenset(package for model in models for package in model.get("allowed") or [])


@dataclass(frozen=True)
class LoadedModel:
    """A model, ready to predict.

    Attributes:
        model: the fitted scikit-learn pipeline; its input is clean features.
        preparation: how raw rows become clean features: target, drop, features, cleaning.
        folder: the model's files.
    """

    model: Any
    preparation: Mapping[str, Any] = field(repr=False)
    folder: Path

    @classmethod
    def from_folder(cls, folder: Path) -> "LoadedModel":
        """Load a model from files that :func:`pipeline.models.registry.fetch` has verified."""
        preparation = model_folder.preparation(folder)
        return cls(
            model_files.load(folder / model_folder.FILE, allowed_packages()), preparation, folder
        )

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each feature: ``number``, ``truth``, ``truth or gap``, ``text``, ..."""
        return self.preparation["features"]

    @property
    def cleaning(self) -> dict[str, Any]:
        """The settings of 2-ETL for the training data."""
        return self.preparation["cleaning"]

    @property
    def classes(self) -> list[Any]:
        """The classes; empty for a regressor."""
        return getattr(self.model, "classes_", np.array([])).tolist()

    @cached_property
    def _code(self) -> ModuleType:
        """The module with the cleaning functions that were used for the training data."""
        return model_files.load_cleaning(self.folder / "extra_files")

    @cached_property
    def _columns(self) -> Columns | None:
        """The fast path for valid cells; None if the training data was cleaned with other code."""
        return Columns(self.kinds, self.cleaning) if self._code is cleaner else None

    @cached_property
    def added(self) -> list[str]:
        """The columns that :meth:`score` returns; with several targets, a prediction for each."""
        if isinstance(target := self.preparation["target"], list):
            return [*(f"{PREDICTION}_{name}" for name in target), REASON]
        classes = self.classes if hasattr(self.model, "predict_proba") else []
        return [PREDICTION, *(f"{PROBABILITY}_{label}" for label in classes), REASON]

    @cached_property
    def requirements(self) -> list[str]:
        """The packages of the training environment, as ``name==version``."""
        return (self.folder / "requirements.txt").read_text(encoding="utf-8").split()

    def score(self, raw: pd.DataFrame) -> pd.DataFrame:
        """Predict each raw row.

        Args:
            raw: raw rows, with the titles of the raw file or the clean names. Cells may be text.
                Columns that are not features are ignored.

        Returns:
            The columns :attr:`added` for each row. A row that can't be scored has a reason and no
            prediction.

        Raises:
            PipelineError: a feature's column is missing.
        """
        return self._score(self.clean(raw)).set_axis(raw.index)

    def score_valid(self, requests: list[Cells]) -> list[Records | None]:
        """The records of each request whose cells are all certainly valid; None for the others."""
        if self._columns is None:
            return [None] * len(requests)
        features, valid = self._columns.read(self._joined(requests))
        slices = [*_slices(requests)]
        counts = [rows.stop - rows.start for rows in slices]
        all_valid = [bool(valid[rows].all()) for rows in slices]
        if not any(all_valid):
            return [None] * len(requests)
        if not all(all_valid):
            features = features[np.repeat(all_valid, counts)]
        names, predicted = self.added[:-1], iter(self._predict(features).tolist())
        return [
            [dict(zip(names, row, strict=True)) for row in islice(predicted, count)]
            if is_valid
            else None
            for count, is_valid in zip(counts, all_valid, strict=True)
        ]

    def score_each(self, requests: list[Cells]) -> list[pd.DataFrame]:
        """:meth:`score` for several requests, in one pass over all rows.

        A cell of a wrong type disables the schema's other checks of its column, for all rows. So
        requests are scored again in groups that have such cells in the same columns.

        Args:
            requests: the cells of all features.
        """
        joined = {name: pd.array(cells, "string") for name, cells in self._joined(requests).items()}
        scored = self._score(self._tidy(pd.DataFrame(joined)))
        parts = [scored.iloc[rows].reset_index(drop=True) for rows in _slices(requests)]
        groups: dict[frozenset[str], list[int]] = defaultdict(list)
        for index, part in enumerate(parts):
            groups[self._mistyped(part)].append(index)
        if len(groups) > 1:
            for indices in groups.values():
                rescored = self.score_each([requests[index] for index in indices])
                for index, part in zip(indices, rescored, strict=True):
                    parts[index] = part
        return parts

    def _mistyped(self, scored: pd.DataFrame) -> frozenset[str]:
        """The columns with a cell of a wrong type."""
        reasons = "; ".join(reason for reason in scored[REASON] if MISTYPED in reason)
        columns = re.findall(rf"(\w+): [^;]+ {MISTYPED}", reasons)
        return frozenset(columns)

    def _joined(self, requests: list[Cells]) -> Cells:
        return {name: [*chain.from_iterable(r[name] for r in requests)] for name in self.kinds}

    def _score(self, text: pd.DataFrame) -> pd.DataFrame:
        features, invalid = self.typed(text)
        reasons = pd.Series("", text.index, dtype=object)
        for problem in (
            *invalid.values(),
            *self._gaps(text),
            *self._broken(text, features, invalid),
        ):
            reasons[problem.index] += problem + "; "
        reasons = reasons.str.removesuffix("; ")
        shape = len(text), len(self.added)
        scored = pd.DataFrame(np.full(shape, None), text.index, self.added, dtype=object)
        valid = (reasons == "").to_numpy()
        if valid.any():
            scored.loc[valid, self.added[:-1]] = self._predict(features[valid])
        scored[REASON] = reasons
        return scored

    def _predict(self, features: pd.DataFrame) -> np.ndarray:
        """Predictions and probabilities, an array of shape (rows, columns of ``added[:-1]``).

        A forest predicts the class of the highest probability, so one pass gives both. Other
        estimators may decide in another way.
        """
        truths = [name for name, kind in self.kinds.items() if kind == "truth"]
        features = features.astype(dict.fromkeys(truths, bool))  # rows with a gap made it object
        features = self.expanded(features)
        prepared, estimator = self.model[:-1].transform(features), self.model[-1]
        if not self.classes or len(self.added) <= 2:
            predicted = _call(estimator, "predict", prepared).astype(object)
            return predicted.reshape(len(features), -1)
        probabilities = _call(estimator, "predict_proba", prepared)
        if type(estimator).predict is ForestClassifier.predict:
            predicted = estimator.classes_.take(probabilities.argmax(axis=1), axis=0)
        else:
            predicted = estimator.predict(prepared)
        return np.array([predicted.astype(object), *probabilities.T], dtype=object).T

    def expanded(self, features: pd.DataFrame) -> pd.DataFrame:
        """The model's input: dates are split into parts, gaps in free text become empty."""
        parts = [features]
        for name, kind in self.kinds.items():
            if kind == "free text":
                features = features.assign(**{name: features[name].fillna("")})
            elif kind.startswith("date "):
                date_format = kind.removeprefix("date ")
                parts.append(self._code.date_parts(features[name], date_format))
        if len(parts) == 1:
            return features
        return pd.concat([features, *parts[1:]], axis=1)[list(self.model.feature_names_in_)]

    def clean(self, raw: pd.DataFrame, written: bool = True) -> pd.DataFrame:
        """Clean the features as 2-ETL does; cells remain text.

        Args:
            raw: the rows.
            written: whether numbers are written as in the raw file; False for a table of 2-ETL.

        Raises:
            PipelineError: two titles become one name, or a feature's column is missing.
        """
        positions = self.locate([*raw.columns])
        table = raw.iloc[:, [*positions.values()]].set_axis([*positions], axis=1)
        return self._tidy(table.reset_index(drop=True).apply(_as_text), written)

    def locate(self, titles: Sequence[str]) -> dict[str, int]:
        """The position of each feature among the titles of raw rows.

        Raises:
            PipelineError: two titles become one name, or a feature's column is missing.
        """
        table = self._code.tidy_titles(pd.DataFrame(columns=[*titles]))
        absent = [name for name in self.kinds if name not in table]
        if absent:
            described = ", ".join(f"{name!r}{did_you_mean(name, table.columns)}" for name in absent)
            raise PipelineError(
                f"the rows lack {described}",
                f"the model needs these columns: {', '.join(self.kinds)}",
            )
        return {name: table.columns.get_loc(name) for name in self.kinds}

    def _tidy(self, text: pd.DataFrame, written: bool = True) -> pd.DataFrame:
        cleaning = self.cleaning
        missing = [*(cleaning.get("usual_missing") or []), *(cleaning.get("missing") or [])]
        table = self._code.strip_text(text, missing)
        parse = cleaning.get("parse") or {}
        signs = cleaning.get("decimal") or ".", cleaning.get("thousands")
        if written and (parse or signs[0] != "." or signs[1]):  # older models lack these functions
            for name in [name for name, kind in self.kinds.items() if kind == "number"]:
                table[name] = self._code.plain(table[name], *signs, parse.get(name, ""))
        return self._code.fill_missing(table, self.cleaning.get("fill") or {})

    def typed(self, text: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
        """Convert clean features to the types that the model was fitted on.

        Returns:
            The features, with gaps in place of cells that can't be converted; and by feature, the
            reasons for those cells.
        """
        features, invalid = {}, {}
        for name, kind in self.kinds.items():
            texts = text[name]
            if kind.startswith("date "):
                features[name] = texts.astype("str")
                parts = self._code.date_parts(features[name], kind.removeprefix("date "))
                unreadable = texts[parts.iloc[:, 0].isna() & texts.notna()]
                if not unreadable.empty:
                    reasons = unreadable.map(lambda cell: f"{_shown(cell)} is no date")
                    invalid[name] = f"{name}: " + reasons
                continue
            if kind in ("text", "free text"):
                features[name] = texts.astype("str")
                continue
            values, expected = _numbers(texts) if kind == "number" else _truths(texts)
            unreadable = texts[values.isna() & texts.notna()]
            if not unreadable.empty:
                reasons = unreadable.map(lambda cell, expected=expected: _not(expected, cell))
                invalid[name] = f"{name}: " + reasons
            is_complete = kind == "truth" and values.notna().all()
            features[name] = values.astype(bool) if is_complete else values
        return pd.DataFrame(features, text.index), invalid

    def _gaps(self, text: pd.DataFrame) -> Iterator[pd.Series]:
        """Reasons for gaps where 2-ETL would drop the row, or where its schema forbids them."""
        required, fill = self.cleaning.get("required"), self.cleaning.get("fill") or {}
        if required is None:
            required = {name for name in self.kinds if name not in fill}
        not_nullable = {rule["column"] for rule in self._rules() if not rule.get("nullable", False)}
        for name, kind in self.kinds.items():
            gaps = text[name].isna()
            if gaps.any() and (name in required or name in not_nullable or kind == "truth"):
                yield pd.Series(f"{name}: missing", gaps.index[gaps])

    def _rules(self) -> list[dict[str, Any]]:
        return [rule for rule in self.cleaning.get("schema") or [] if rule["column"] in self.kinds]

    def _broken(
        self, text: pd.DataFrame, features: pd.DataFrame, invalid: Mapping[str, pd.Series]
    ) -> Iterator[pd.Series]:
        """Reasons for cells that break a rule of 2-ETL's schema; ``unique`` is not checked."""
        table, rules = {}, []
        for rule in self._rules():
            name = rule["column"]
            dtype = {"number": "Float64", "text": None}.get(self.kinds[name], "boolean")
            use_typed = dtype and rule.get("dtype") != "str"
            values = features[name].astype(dtype) if use_typed else text[name].copy()
            if name in invalid:
                values[invalid[name].index] = pd.NA
            table[name] = values
            rules.append({**rule, "unique": False, "nullable": True})
        _, cases = self._code.check(pd.DataFrame(table, text.index), rules)
        if cases.empty:
            return
        for (name, rule), rows in cases.groupby(["column", "rule"], sort=False):
            short = f"{rule[: 2 * SHOWN]}..." if len(rule) > 2 * SHOWN else rule
            reasons = rows["value"].map(lambda value, rule=short: f"{_shown(value)} breaks {rule}")
            yield (f"{name}: " + reasons).set_axis(rows["index"].astype(int))


def measure(loaded: LoadedModel, test: Path) -> dict[str, Any]:
    """A model's metrics on clean test data; the schema's rules are not checked."""
    from pipeline.science import evaluation

    features, _ = loaded.typed(loaded.clean(read_cells(test), written=False))
    name, dtype = loaded.preparation["target"], loaded.preparation.get("target_dtype")
    names, dtypes = ([name], [dtype]) if isinstance(name, str) else (name, dtype)
    types = [
        {"column": column, "dtype": kind}
        for column, kind in zip(names, dtypes or [], strict=True)
        if kind
    ]
    target = read_table(test, schema={"columns": types})[name]
    predictions = evaluation.predict(
        loaded.model, loaded.expanded(features), target, loaded.preparation.get("positive")
    )
    result = {
        "metrics": evaluation.metrics(predictions),
        "baseline": evaluation.baseline(predictions),
    }
    return {**result, "rows": len(target)}


def main(folder: str, test: str | None = None) -> None:
    """Load a model in this process, measure it if there is test data, and print JSON.

    The gate runs ``python -m pipeline.models.scoring FOLDER [TEST.csv]``.
    """
    try:
        loaded = LoadedModel.from_folder(Path(folder))
        result = measure(loaded, Path(test)) if test else {}
    except PipelineError as error:
        raise SystemExit(f"{error}") from error
    print(json.dumps({**result, "classes": loaded.classes, "outputs": loaded.added}))


def _slices(requests: list[Cells]) -> Iterator[slice]:
    """The position of each request's rows in the joined rows."""
    sizes = (len(next(iter(cells.values()))) for cells in requests)
    return starmap(slice, pairwise(accumulate(sizes, initial=0)))


def _call(estimator: Any, method: str, rows: Any) -> np.ndarray:
    """Call an estimator's method; for few rows, call a forest's trees without joblib."""
    is_forest = getattr(type(estimator), method) in (
        ForestClassifier.predict_proba,
        ForestRegressor.predict,
    )
    if not is_forest or estimator.n_outputs_ > 1 or rows.shape[0] > FEW:
        return getattr(estimator, method)(rows)
    rows = estimator._validate_X_predict(rows)  # noqa: SLF001 - as scikit-learn does
    outputs = (getattr(tree, method)(rows, check_input=False) for tree in estimator.estimators_)
    return np.asarray(sum(outputs)) / len(estimator.estimators_)


def _numbers(texts: pd.Series) -> tuple[pd.Series, str]:
    values = pd.to_numeric(texts, errors="coerce").astype("Float64").astype("float64")
    return values.where(values.abs() <= LARGEST), "a number"


def _truths(texts: pd.Series) -> tuple[pd.Series, str]:
    truths = texts.str.lower().map({"true": True, "false": False})
    return truths.astype(object).where(truths.notna(), np.nan), "true or false"


def _not(expected: str, text: str) -> str:
    """The reason for a cell that can't be converted."""
    try:
        too_large = expected == "a number" and LARGEST < abs(float(text)) < float("inf")
    except ValueError:
        too_large = False
    return f"{_shown(text)} is {'too large a number' if too_large else f'not {expected}'}"


def _shown(value: Any) -> str:
    """A cell's value for a reason, cut if it is long."""
    return repr(value)[:SHOWN] if isinstance(value, str) else f"{value:g}"


def _as_text(column: pd.Series) -> pd.Series:
    """Cells as text, as in a CSV file; gaps stay gaps."""
    return column.map(str, na_action="ignore").astype("string")


if __name__ == "__main__":
    main(*sys.argv[1:])
