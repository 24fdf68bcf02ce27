"""Raw rows in, predictions out: a model together with the cleaning its training data had.

It is used in the model's own environment, so it imports little: no MLflow, no tracker.
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
SHOWN = 40  # characters of a value that is wrong
FEW = 1000  # rows for which joblib takes longer than a forest's trees
Cells = dict[str, list[str | None]]  # by feature, as text: what a CSV file would have
Records = list[dict[str, Any]]  # predictions and probabilities by row


@cache
def allowed() -> frozenset[str]:
    """The packages that ``model.allowed`` names, in any of this checkout's configuration files."""
    told = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["model"]
    files = [yaml.safe_load(p.read_text(encoding="utf-8")) for p in ROOT.glob("conf/model/*.yaml")]
    models = (told, *(one.get("model", one) for one in files))
    return frozenset(package for one in models for package in one.get("allowed") or [])


@dataclass(frozen=True)
class Loaded:
    """A model, ready to predict.

    Attributes:
        model: the fitted scikit-learn pipeline; it takes clean features.
        preparation: how raw rows become those: target, drop, features, cleaning.
        folder: its files.
    """

    model: Any
    preparation: Mapping[str, Any] = field(repr=False)
    folder: Path

    @classmethod
    def from_folder(cls, folder: Path) -> "Loaded":
        """A model from files that :func:`pipeline.models.registry.fetch` has compared."""
        told = model_folder.preparation(folder)
        return cls(model_files.load(folder / model_folder.FILE, allowed()), told, folder)

    @property
    def kinds(self) -> dict[str, str]:
        """What each feature holds: ``number``, ``truth``, ``truth or gap`` or ``text``."""
        return self.preparation["features"]

    @property
    def cleaning(self) -> dict[str, Any]:
        """The settings of 2-ETL that its training data was cleaned with."""
        return self.preparation["cleaning"]

    @property
    def classes(self) -> list[Any]:
        """The classes it tells apart; none for a regressor."""
        return getattr(self.model, "classes_", np.array([])).tolist()

    @cached_property
    def _code(self) -> ModuleType:
        """The cleaning functions that its training data went through."""
        return model_files.load_cleaning(self.folder / "extra_files")

    @cached_property
    def _columns(self) -> Columns | None:
        """Readers of valid cells; only for today's cleaning: another one may read otherwise."""
        return Columns(self.kinds, self.cleaning) if self._code is cleaner else None

    @cached_property
    def added(self) -> list[str]:
        """The columns that :meth:`score` gives; of several targets a prediction for each."""
        if isinstance(target := self.preparation["target"], list):
            return [*(f"{PREDICTION}_{name}" for name in target), REASON]
        chances = self.classes if hasattr(self.model, "predict_proba") else []
        return [PREDICTION, *(f"{PROBABILITY}_{label}" for label in chances), REASON]

    @cached_property
    def requirements(self) -> list[str]:
        """The packages it was made with, as ``name==version``."""
        return (self.folder / "requirements.txt").read_text(encoding="utf-8").split()

    def score(self, raw: pd.DataFrame) -> pd.DataFrame:
        """Predictions and probabilities, one row for each raw one; or the reason there is none.

        Args:
            raw: rows as somebody has them, with the titles of the raw file or the clean names;
                cells may be text. Columns that are no features are passed over.

        Raises:
            PipelineError: a feature's column is not there at all.
        """
        return self._score(self.clean(raw)).set_axis(raw.index)

    def score_valid(self, requests: list[Cells]) -> list[Records | None]:
        """What :meth:`score` gives, as records, for each request whose cells are surely valid."""
        if self._columns is None:
            return [None] * len(requests)
        features, valid = self._columns.read(self._joined(requests))
        places = [*_places(requests)]
        good = [bool(valid[place].all()) for place in places]
        if not any(good):
            return [None] * len(requests)
        if not all(good):
            features = features[np.repeat(good, [place.stop - place.start for place in places])]
        names, rows = self.added[:-1], iter(self._predict(features).tolist())
        return [
            [dict(zip(names, row, strict=True)) for row in islice(rows, place.stop - place.start)]
            if well
            else None
            for place, well in zip(places, good, strict=True)
        ]

    def score_each(self, requests: list[Cells]) -> list[pd.DataFrame]:
        """What :meth:`score` gives for each of several requests, in one pass over all rows.

        A cell of a wrong type stops the schema's other checks of its column, for all rows. So
        requests with such cells are scored again, beside those that have them in the same columns.

        Args:
            requests: cells as text by feature; all features are there.
        """
        joined = {name: pd.array(cells, "string") for name, cells in self._joined(requests).items()}
        scored = self._score(self._tidy(pd.DataFrame(joined)))
        parts = [scored.iloc[place].reset_index(drop=True) for place in _places(requests)]
        groups: dict[frozenset[str], list[int]] = defaultdict(list)
        for number, part in enumerate(parts):
            groups[self._mistyped(part)].append(number)
        if len(groups) > 1:
            for numbers in groups.values():
                apart = self.score_each([requests[number] for number in numbers])
                for number, part in zip(numbers, apart, strict=True):
                    parts[number] = part
        return parts

    def _mistyped(self, scored: pd.DataFrame) -> frozenset[str]:
        """The columns in which a cell breaks the schema's type."""
        told = "; ".join(reason for reason in scored[REASON] if MISTYPED in reason)
        found = re.findall(rf"(\w+): [^;]+ {MISTYPED}", told)
        return frozenset(found)

    def _joined(self, requests: list[Cells]) -> Cells:
        return {name: [*chain.from_iterable(r[name] for r in requests)] for name in self.kinds}

    def _score(self, text: pd.DataFrame) -> pd.DataFrame:
        features, wrong = self.typed(text)
        reasons = pd.Series("", text.index, dtype=object)
        for problem in (*wrong.values(), *self._gaps(text), *self._broken(text, features, wrong)):
            reasons[problem.index] += problem + "; "
        reasons = reasons.str.removesuffix("; ")
        shape = len(text), len(self.added)
        scored = pd.DataFrame(np.full(shape, None), text.index, self.added, dtype=object)
        good = (reasons == "").to_numpy()
        if good.any():
            scored.loc[good, self.added[:-1]] = self._predict(features[good])
        scored[REASON] = reasons
        return scored

    def _predict(self, features: pd.DataFrame) -> np.ndarray:
        """Predictions and probabilities; of a forest in one pass, whose classes follow from them.

        Other estimators may predict otherwise than by the highest probability.
        """
        truths = [name for name, kind in self.kinds.items() if kind == "truth"]
        features = features.astype(dict.fromkeys(truths, bool))  # a row beside it may have a gap
        features = self.expanded(features)
        prepared, estimator = self.model[:-1].transform(features), self.model[-1]
        if not self.classes or len(self.added) <= 2:
            predicted = _asked(estimator, "predict", prepared).astype(object)
            return predicted.reshape(len(features), -1)
        chances = _asked(estimator, "predict_proba", prepared)
        if type(estimator).predict is ForestClassifier.predict:
            predicted = estimator.classes_.take(chances.argmax(axis=1), axis=0)
        else:
            predicted = estimator.predict(prepared)
        return np.array([predicted.astype(object), *chances.T], dtype=object).T

    def expanded(self, features: pd.DataFrame) -> pd.DataFrame:
        """The features as the model takes them: dates as their parts, free text without gaps."""
        parts = [features]
        for name, kind in self.kinds.items():
            if kind == "free text":
                features = features.assign(**{name: features[name].fillna("")})
            elif kind.startswith("date "):
                form = kind.removeprefix("date ")
                parts.append(self._code.date_parts(features[name], form))
        if len(parts) == 1:
            return features
        return pd.concat([features, *parts[1:]], axis=1)[list(self.model.feature_names_in_)]

    def clean(self, raw: pd.DataFrame, written: bool = True) -> pd.DataFrame:
        """The features as 2-ETL leaves them, each cell still as text.

        Args:
            raw: the rows.
            written: numbers are as in the raw file; not so in a table that 2-ETL has written.

        Raises:
            PipelineError: two titles become one name, or a feature's column is not there.
        """
        places = self.locate([*raw.columns])
        table = raw.iloc[:, [*places.values()]].set_axis([*places], axis=1)
        return self._tidy(table.reset_index(drop=True).apply(_as_text), written)

    def locate(self, titles: Sequence[str]) -> dict[str, int]:
        """The place of each feature among the titles of raw rows.

        Raises:
            PipelineError: two titles become one name, or a feature's column is not there.
        """
        table = self._code.tidy_titles(pd.DataFrame(columns=[*titles]))
        lacking = [name for name in self.kinds if name not in table]
        if lacking:
            shown = ", ".join(f"{name!r}{did_you_mean(name, table.columns)}" for name in lacking)
            raise PipelineError(
                f"the rows lack {shown}",
                f"the model needs these columns: {', '.join(self.kinds)}",
            )
        return {name: table.columns.get_loc(name) for name in self.kinds}

    def _tidy(self, text: pd.DataFrame, written: bool = True) -> pd.DataFrame:
        told = self.cleaning
        missing = [*(told.get("usual_missing") or []), *(told.get("missing") or [])]
        table = self._code.strip_text(text, missing)
        parse, signs = told.get("parse") or {}, (told.get("decimal") or ".", told.get("thousands"))
        if written and (parse or signs[0] != "." or signs[1]):  # models before have none of them
            for name in [name for name, kind in self.kinds.items() if kind == "number"]:
                table[name] = self._code.plain(table[name], *signs, parse.get(name, ""))
        return self._code.fill_missing(table, self.cleaning.get("fill") or {})

    def typed(self, text: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
        """The features in the types the model was fitted on.

        Returns:
            The features, a cell that has no such value being a gap; and by feature what is to be
            said of those cells.
        """
        features, wrong = {}, {}
        for name, kind in self.kinds.items():
            words = text[name]
            if kind.startswith("date "):
                features[name] = words.astype("str")
                parts = self._code.date_parts(features[name], kind.removeprefix("date "))
                lost = words[parts.iloc[:, 0].isna() & words.notna()]
                if not lost.empty:
                    wrong[name] = f"{name}: " + lost.map(lambda word: f"{_shown(word)} is no date")
                continue
            if kind in ("text", "free text"):
                features[name] = words.astype("str")
                continue
            values, what = _numbers(words) if kind == "number" else _truths(words)
            lost = words[values.isna() & words.notna()]
            if not lost.empty:
                wrong[name] = f"{name}: " + lost.map(lambda word, what=what: _wrong(word, what))
            whole = kind == "truth" and values.notna().all()
            features[name] = values.astype(bool) if whole else values
        return pd.DataFrame(features, text.index), wrong

    def _gaps(self, text: pd.DataFrame) -> Iterator[pd.Series]:
        """Gaps where 2-ETL would have dropped the row, or where its schema does not allow them."""
        required, fill = self.cleaning.get("required"), self.cleaning.get("fill") or {}
        needed = {name for name in self.kinds if name not in fill} if required is None else required
        ruled = {rule["column"] for rule in self._rules() if not rule.get("nullable", False)}
        for name, kind in self.kinds.items():
            gaps = text[name].isna()
            if gaps.any() and (name in needed or name in ruled or kind == "truth"):
                yield pd.Series(f"{name}: missing", gaps.index[gaps])

    def _rules(self) -> list[dict[str, Any]]:
        return [rule for rule in self.cleaning.get("schema") or [] if rule["column"] in self.kinds]

    def _broken(
        self, text: pd.DataFrame, features: pd.DataFrame, wrong: Mapping[str, pd.Series]
    ) -> Iterator[pd.Series]:
        """Cells that break a rule of 2-ETL's schema; new rows may hold a value twice."""
        table, rules = {}, []
        for rule in self._rules():
            name = rule["column"]
            form = {"number": "Float64", "text": None}.get(self.kinds[name], "boolean")
            typed = form and rule.get("dtype") != "str"
            values = features[name].astype(form) if typed else text[name].copy()
            if name in wrong:
                values[wrong[name].index] = pd.NA
            table[name] = values
            rules.append({**rule, "unique": False, "nullable": True})
        _, cases = self._code.check(pd.DataFrame(table, text.index), rules)
        if cases.empty:
            return
        for (name, rule), rows in cases.groupby(["column", "rule"], sort=False):
            short = f"{rule[: 2 * SHOWN]}..." if len(rule) > 2 * SHOWN else rule
            told = rows["value"].map(lambda value, rule=short: f"{_shown(value)} breaks {rule}")
            yield (f"{name}: " + told).set_axis(rows["index"].astype(int))


def measure(loaded: Loaded, test: Path) -> dict[str, Any]:
    """A model's metrics on clean test data, whatever its own schema says of their values."""
    from pipeline.science import evaluation

    features, _ = loaded.typed(loaded.clean(read_cells(test), written=False))
    name, dtype = loaded.preparation["target"], loaded.preparation.get("target_dtype")
    names, dtypes = ([name], [dtype]) if isinstance(name, str) else (name, dtype)
    types = [
        {"column": one, "dtype": kind} for one, kind in zip(names, dtypes, strict=True) if kind
    ]
    target = read_table(test, schema={"columns": types})[name]
    said = evaluation.answers(
        loaded.model, loaded.expanded(features), target, loaded.preparation.get("positive")
    )
    told = {"metrics": evaluation.metrics(said), "baseline": evaluation.baseline(said)}
    return {**told, "rows": len(target)}


def main(folder: str, test: str | None = None) -> None:
    """Load a model in this process, measure it if there is test data, and print what came out.

    ``python -m pipeline.models.scoring FOLDER [TEST.csv]`` is how the gate sees that a model works.
    """
    try:
        loaded = Loaded.from_folder(Path(folder))
        told = measure(loaded, Path(test)) if test else {}
    except PipelineError as error:
        raise SystemExit(f"{error}") from error
    print(json.dumps({**told, "classes": loaded.classes, "outputs": loaded.added}))


def _places(requests: list[Cells]) -> Iterator[slice]:
    """Where each request's rows are among those of all."""
    sizes = (len(next(iter(cells.values()))) for cells in requests)
    return starmap(slice, pairwise(accumulate(sizes, initial=0)))


def _asked(estimator: Any, method: str, rows: Any) -> np.ndarray:
    """What an estimator's method says of rows; of few rows, a forest's trees without joblib."""
    forest = getattr(type(estimator), method) in (
        ForestClassifier.predict_proba,
        ForestRegressor.predict,
    )
    if not forest or estimator.n_outputs_ > 1 or rows.shape[0] > FEW:
        return getattr(estimator, method)(rows)
    rows = estimator._validate_X_predict(rows)  # noqa: SLF001 - as predict of scikit-learn does
    said = sum(getattr(tree, method)(rows, check_input=False) for tree in estimator.estimators_)
    return said / len(estimator.estimators_)


def _numbers(words: pd.Series) -> tuple[pd.Series, str]:
    values = pd.to_numeric(words, errors="coerce").astype("Float64").astype("float64")
    return values.where(values.abs() <= LARGEST), "a number"


def _truths(words: pd.Series) -> tuple[pd.Series, str]:
    truth = words.str.lower().map({"true": True, "false": False})
    return truth.astype(object).where(truth.notna(), np.nan), "true or false"


def _wrong(word: str, what: str) -> str:
    """What is said of a cell that is not what it has to be."""
    try:
        too_large = what == "a number" and LARGEST < abs(float(word)) < float("inf")
    except ValueError:
        too_large = False
    return f"{_shown(word)} is {'too large a number' if too_large else f'not {what}'}"


def _shown(value: Any) -> str:
    """A cell's value as a reason shows it."""
    return repr(value)[:SHOWN] if isinstance(value, str) else f"{value:g}"


def _as_text(column: pd.Series) -> pd.Series:
    """Cells as a CSV file would have them; gaps stay gaps."""
    return column.map(str, na_action="ignore").astype("string")


if __name__ == "__main__":
    main(*sys.argv[1:])
