"""Rows for a model: what a form asks for, an uploaded file, and the training data."""

import csv
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core.errors import PipelineError
from pipeline.models.registry import Version
from pipeline.models.scoring import REASON, Loaded
from pipeline.science.data.tables import dialect, read_cells
from pipeline.tracking import Tracker

MOST_TILES = 8
CHOICES = 200  # more values than that are typed rather than chosen


@dataclass(frozen=True)
class Field:
    """What a form asks for: one feature.

    Attributes:
        kind: ``number``, ``truth`` or ``text``.
        usual: what it holds unless told otherwise: the median, or the commonest value.
        choices: the values there are; empty if any will do.
        low, high: the limits of a number, if its rule has any.
        whole: whether the number has no fraction.
    """

    name: str
    kind: str
    usual: Any
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    whole: bool = False


def shown_first(metrics: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """The metrics of the test data as a whole, and the other ones: of folds, of each target."""
    first = [name for name in metrics if not name.startswith(("cv_", "val_")) and "." not in name]
    first = first[:MOST_TILES]
    return first, [name for name in metrics if name not in first]


def fields(loaded: Loaded, training: pd.DataFrame) -> list[Field]:
    """A field for each feature, from the rules of its column and the training data."""
    rules = {rule["column"]: rule for rule in loaded.cleaning.get("schema") or []}
    return [
        _field(name, kind.partition(" ")[0], rules.get(name, {}), training[name].dropna())
        for name, kind in loaded.kinds.items()
    ]


def _field(name: str, kind: str, rule: dict[str, Any], known: pd.Series) -> Field:
    if kind == "number":
        whole = rule.get("dtype") == "int" or bool((known % 1 == 0).all())
        usual = float(known.median()) if len(known) else 0.0
        usual = float(round(usual)) if whole else usual
        return Field(name, kind, usual, (), rule.get("min"), rule.get("max"), whole)
    words = known.astype(str)
    usual = words.mode().iloc[0] if len(words) else ""
    if kind == "truth":
        return Field(name, kind, usual == "True")
    choices = [str(value) for value in rule.get("values") or sorted(words.unique())]
    return Field(name, kind, usual, tuple(choices) if len(choices) <= CHOICES else ())


def uploaded(data: bytes, loaded: Loaded) -> pd.DataFrame:
    """The rows of an uploaded CSV file, each cell as the text that is there.

    Raises:
        PipelineError: it is no such table.
    """
    sep, encoding = dialect(loaded.cleaning.get("sep"), loaded.cleaning.get("encoding"))
    try:
        form = {"sep": sep, "skipinitialspace": True, "keep_default_na": False}
        table = pd.read_csv(io.StringIO(data.decode(encoding)), dtype="str", **form)
    except UnicodeError as error:
        raise PipelineError(
            f"the file is not text in {encoding.removesuffix('-sig')}: {error}", "save it so"
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise PipelineError(
            f"the file is not a table separated by {sep!r}: {str(error).strip()}",
            "upload a CSV file like the one that the model was trained on",
        ) from error
    if not isinstance(table.index, pd.RangeIndex):
        raise PipelineError("a row has more cells than there are titles", "give each a title")
    if table.empty:
        raise PipelineError("the file has a header and no rows", "upload one with rows")
    return table


def predictions(loaded: Loaded, raw: pd.DataFrame) -> pd.DataFrame:
    """What the model says of raw rows, beside their own columns.

    Raises:
        PipelineError: a column that the model needs is not there, or would be written over.
    """
    scored = loaded.score(raw)
    for name in loaded.added:
        if name in raw:
            raise PipelineError(f"the file has a column {name!r} already", "rename it")
    return pd.concat([scored.drop(columns=REASON), raw, scored[[REASON]]], axis=1)


def training_rows(version: Version, loaded: Loaded) -> pd.DataFrame:
    """The features of the data that a version was fitted on.

    Raises:
        PipelineError: the data is gone, or not what it was.
    """
    if "train" not in version.data:
        raise PipelineError(
            f"version {version.number} does not say what it was fitted on", "train it again"
        )
    reference, digest = version.data["train"]
    tracker = Tracker.from_store(version.tags.get("tracker.store", ""))
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        found = tracker.fetch(reference, Path(folder, "data"))
        if found.digest != digest:
            raise PipelineError(
                f"{reference} is not what version {version.number} was fitted on",
                "use the tracker and the project that it was trained with",
            )
        return loaded.typed(loaded.clean(read_cells(found.file()), written=False))[0]
