"""Fitted scikit-learn models as files: no pickle, and the same model always in the same bytes."""

import importlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import skops.io

from pipeline.core.errors import PipelineError
from pipeline.core.files import combined_digest, file_digest
from pipeline.core.model_folder import CODE, PREPARATION

TRUSTED_PACKAGES = ("sklearn", "numpy", "pandas", "scipy")
TRUSTED_TYPES = ("collections.OrderedDict",)
PART = re.compile(r'"file": "([^".]+)\.(\w+)"')  # in a model's schema; text in it has \" there
EPOCH = (1980, 1, 1, 0, 0, 0)
FAST = 2  # of 9: a third of the time of the usual 6, and files a seventh larger


def types(data: bytes, allowed: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """The types in a skops file that skops asks about: of packages we trust, and others.

    Args:
        data: the file's content.
        allowed: packages to trust beside our own, as ``model.allowed`` names them.
    """
    trusted: list[str] = []
    others: list[str] = []
    for name in skops.io.get_untrusted_types(data=data):
        known = name.partition(".")[0] in {*TRUSTED_PACKAGES, *allowed} or name in TRUSTED_TYPES
        (trusted if known else others).append(name)
    return trusted, others


def dumps(model: Any) -> bytes:
    """A fitted model in skops' format.

    skops names the parts of a model by their addresses in memory, which differ from process to
    process; here they are numbered in the order in which they appear, the archive carries no
    dates, and the unused bytes within a tree's nodes are zero, so equal models are equal files.
    """
    source = zipfile.ZipFile(io.BytesIO(skops.io.dumps(model)))
    numbers: dict[str, int] = {}

    def number(address: str) -> int:
        return numbers.setdefault(address, len(numbers))

    schema = source.read("schema.json").decode()
    schema = re.sub(r'"__id__": (\d+)', lambda m: f'"__id__": {number(m[1])}', schema)
    schema = re.sub(PART, lambda m: f'"file": "{number(m[1])}.{m[2]}"', schema)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as target:

        def write(name: str, content: bytes) -> None:
            info = zipfile.ZipInfo(name, EPOCH)
            target.writestr(info, content, zipfile.ZIP_DEFLATED, FAST)

        write("schema.json", schema.encode())
        parts = [name.split(".") for name in source.namelist() if name != "schema.json"]
        for address, ending in sorted(parts, key=lambda part: number(part[0])):
            content = source.read(f"{address}.{ending}")
            content = without_padding(content) if ending == "npy" else content
            write(f"{number(address)}.{ending}", content)
    return data.getvalue()


def without_padding(data: bytes) -> bytes:
    """A ``.npy`` file whose records, if it has any, have zeros between their fields.

    A copy of such records keeps there whatever the memory held before.
    """
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.names is None:
        return data
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    file = io.BytesIO()
    np.save(file, clean, allow_pickle=False)
    return file.getvalue()


def save(model: Any, path: Path) -> Path:
    """Write a fitted model to a file, see :func:`dumps`."""
    path.write_bytes(dumps(model))
    return path


def load(path: Path, allowed: Collection[str] = ()) -> Any:
    """Read a model written by :func:`save`.

    Raises:
        PipelineError: it holds types of packages that are not trusted, see :func:`types`.
    """
    data = path.read_bytes()
    trusted, others = types(data, allowed)
    if others:
        raise PipelineError(
            f"the model holds types of packages that are not trusted: {', '.join(others)}",
            "if you trust them, name the packages in model.allowed, in config.yaml or in the "
            "model's file in conf/model",
        )
    return skops.io.loads(data, trusted=trusted)


def cleaning_code() -> list[Path]:
    """The files of this version's cleaning code, to be kept with a model."""
    return [Path(__file__).parent / "data" / name for name in CODE]


def load_cleaning(folder: Path) -> ModuleType:
    """The module :mod:`pipeline.science.data.cleaning` as it was when a model was trained.

    It is imported under a name of its own, so that models of several versions can be used in one
    process. Copies that equal today's files are today's module; so is that of a model without
    copies, which was made before they were kept.

    Args:
        folder: where the copies are.
    """
    files = [file for name in CODE if (file := folder / name).is_file()]
    today = [*map(file_digest, cleaning_code())]
    if len(files) < 2 or [*map(file_digest, files)] == today:  # the first ones had two
        return importlib.import_module("pipeline.science.data.cleaning")
    name = f"cleaning_{combined_digest({file.name: file_digest(file) for file in files})[:16]}"
    if name not in sys.modules:
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [str(folder)]
    return importlib.import_module(f"{name}.cleaning")


def write_preparation(
    folder: Path,
    *,
    target: str,
    target_dtype: str | None = None,
    positive: Any = None,
    drop: Collection[str],
    features: Mapping[str, str],
    cleaning: Mapping[str, Any],
    example: Mapping[str, Any] | None = None,
) -> Path:
    """Write how raw rows become a model's features, for those who predict with it.

    Args:
        folder: where the file goes.
        target: the column that is predicted.
        target_dtype: its type (:func:`pipeline.science.data.kinds.dtype`).
        positive: of two classes the one that its metrics are of.
        drop: columns that are not features.
        features: what each feature holds (:func:`pipeline.science.training.feature_kinds`).
        cleaning: the settings with which raw rows were read and cleaned.
        example: a row of the training data.
    """
    path = folder / PREPARATION
    content: dict[str, object] = {"target": target, "target_dtype": target_dtype}
    content |= {"drop": [*drop]}
    content |= {"positive": positive.item() if hasattr(positive, "item") else positive}
    content |= {"features": features, "cleaning": cleaning, "example": dict(example or {})}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
