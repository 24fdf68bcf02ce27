"""Rows for a model: from a form, an uploaded file, or the training data."""

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
from pipeline.models.scoring import REASON, LoadedModel
from pipeline.science.data.tables import dialect, read_cells
from pipeline.tracking import Tracker

MOST_TILES = 8
CHOICES = 200  # values that are offered as a list; with more, the field is a text input


@dataclass(frozen=True)
class Field:
    """A field of the form, for one feature.

    Attributes:
        kind: ``number``, ``truth`` or ``text``.
        default: the median, or the most frequent value.
        choices: the allowed values; empty for free input.
        low, high: the limits of a number, if its rule has any.
        is_integer: whether the number has no fraction.
    """

    name: str
    kind: str
    default: Any
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    is_integer: bool = False


def split_metrics(metrics: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """The first metrics to show, of all test data; and the others, of folds and of each target."""
    first = [name for name in metrics if not name.startswith(("cv_", "val_")) and "." not in name]
    first = first[:MOST_TILES]
    return first, [name for name in metrics if name not in first]


def fields(loaded: LoadedModel, training: pd.DataFrame) -> list[Field]:
    """A field for each feature, from the schema's rules and the training data."""
    rules = {rule["column"]: rule for rule in loaded.cleaning.get("schema") or []}
    return [
        _field(name, kind.partition(" ")[0], rules.get(name, {}), training[name].dropna())
        for name, kind in loaded.kinds.items()
    ]


def _field(name: str, kind: str, rule: dict[str, Any], values: pd.Series) -> Field:
    if kind == "number":
        is_integer = rule.get("dtype") == "int" or bool((values % 1 == 0).all())
        default = float(values.median()) if len(values) else 0.0
        default = float(round(default)) if is_integer else default
        return Field(name, kind, default, (), rule.get("min"), rule.get("max"), is_integer)
    texts = values.astype(str)
    default = texts.mode().iloc[0] if len(texts) else ""
    if kind == "truth":
        return Field(name, kind, default == "True")
    choices = [str(value) for value in rule.get("values") or sorted(texts.unique())]
    return Field(name, kind, default, tuple(choices) if len(choices) <= CHOICES else ())


def uploaded(data: bytes, loaded: LoadedModel) -> pd.DataFrame:
    """Read an uploaded CSV file; cells stay text.

    Raises:
        PipelineError: the file can't be read as a table with rows.
    """
    sep, encoding = dialect(loaded.cleaning.get("sep"), loaded.cleaning.get("encoding"))
    try:
        options = {"sep": sep, "skipinitialspace": True, "keep_default_na": False}
        table = pd.read_csv(io.StringIO(data.decode(encoding)), dtype="str", **options)
    except UnicodeError as error:
        raise PipelineError(
            f"the file is not text in {encoding.removesuffix('-sig')}: {error}",
            "save the file in this encoding",
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise PipelineError(
            f"the file is not a table separated by {sep!r}: {str(error).strip()}",
            "upload a CSV file like the one that the model was trained on",
        ) from error
    if not isinstance(table.index, pd.RangeIndex):
        raise PipelineError("a row has more cells than the header", "give each column a title")
    if table.empty:
        raise PipelineError("the file has a header and no rows", "upload a file with rows")
    return table


def predictions(loaded: LoadedModel, raw: pd.DataFrame) -> pd.DataFrame:
    """Raw rows with the columns that the model adds.

    Raises:
        PipelineError: a feature's column is missing, or a column has the name of an added one.
    """
    scored = loaded.score(raw)
    for name in loaded.added:
        if name in raw:
            raise PipelineError(f"the file has a column {name!r} already", "rename the column")
    return pd.concat([scored.drop(columns=REASON), raw, scored[[REASON]]], axis=1)


def training_rows(version: Version, loaded: LoadedModel) -> pd.DataFrame:
    """The features of a version's training data.

    Raises:
        PipelineError: the data is missing, or has changed.
    """
    if "train" not in version.data:
        raise PipelineError(
            f"version {version.number} has no record of its training data", "train it again"
        )
    reference, digest = version.data["train"]
    tracker = Tracker.from_store(version.tags.get("tracker.store", ""))
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        artifact = tracker.fetch(reference, Path(folder, "data"))
        if artifact.digest != digest:
            raise PipelineError(
                f"{reference} is not the training data of version {version.number}",
                "use the tracker and the project that the version was trained with",
            )
        return loaded.typed(loaded.clean(read_cells(artifact.file()), written=False))[0]
