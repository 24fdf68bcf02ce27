"""Fitted scikit-learn models as files: without pickle, and equal models as equal bytes."""

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
# A file in a model's schema, where text escapes its quotes
PART = re.compile(r'"file": "([^".]+)\.(\w+)"')
EPOCH = (1980, 1, 1, 0, 0, 0)
FAST = 2  # compression level: a third of the time of the default 6, files a seventh larger


def types(data: bytes, allowed: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """The types in a skops file that skops does not trust by itself.

    Args:
        data: the file's content.
        allowed: packages to trust besides :data:`TRUSTED_PACKAGES` (``model.allowed``).

    Returns:
        The types of trusted packages, and all others.
    """
    trusted: list[str] = []
    untrusted: list[str] = []
    for name in skops.io.get_untrusted_types(data=data):
        is_trusted = (
            name.partition(".")[0] in {*TRUSTED_PACKAGES, *allowed} or name in TRUSTED_TYPES
        )
        (trusted if is_trusted else untrusted).append(name)
    return trusted, untrusted


def dumps(model: Any) -> bytes:
    """A fitted model in skops' format.

    Equal models give equal files. Skops names the parts of a model by their addresses in memory,
    which differ between processes; here the parts are numbered in the order of their appearance.
    The archive has no dates, and the unused bytes within a tree's nodes are zero.
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
    """A ``.npy`` file with zeros in the padding between the fields of its records, if any.

    Otherwise the padding holds arbitrary bytes of memory.
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
        PipelineError: the file has types of packages that are not trusted, see :func:`types`.
    """
    data = path.read_bytes()
    trusted, untrusted = types(data, allowed)
    if untrusted:
        raise PipelineError(
            f"the model holds types of packages that are not trusted: {', '.join(untrusted)}",
            "if you trust them, name the packages in model.allowed, in config.yaml or in the "
            "model's file in conf/model",
        )
    return skops.io.loads(data, trusted=trusted)


def cleaning_code() -> list[Path]:
    """The files of the current cleaning code, which are stored with a model."""
    return [Path(__file__).parent / "data" / name for name in CODE]


def load_cleaning(folder: Path) -> ModuleType:
    """The module :mod:`pipeline.science.data.cleaning` as of the training of a model.

    The copy is imported under a name of its own, so that one process can use models of several
    versions. The current module is returned if the copies equal it, or if an early model has none.

    Args:
        folder: the folder of the copies.
    """
    files = [file for name in CODE if (file := folder / name).is_file()]
    current_digests = [*map(file_digest, cleaning_code())]
    # early models have two copies
    if len(files) < 2 or [*map(file_digest, files)] == current_digests:
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
    """Write the settings that turn raw rows into a model's features, for prediction.

    Args:
        folder: the folder of the file.
        target: the column that is predicted.
        target_dtype: its type (:func:`pipeline.science.data.kinds.dtype`).
        positive: the positive class of a binary classifier.
        drop: columns that are not features.
        features: the kind of each feature (:func:`pipeline.science.training.feature_kinds`).
        cleaning: the settings that read and cleaned the raw rows.
        example: a row of the training data.
    """
    path = folder / PREPARATION
    content: dict[str, object] = {"target": target, "target_dtype": target_dtype}
    content |= {"drop": [*drop]}
    content |= {"positive": positive.item() if hasattr(positive, "item") else positive}
    content |= {"features": features, "cleaning": cleaning, "example": dict(example or {})}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path
