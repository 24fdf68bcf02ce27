"""A decorator for a function that makes tables from a CSV file."""

import functools
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.files import file_digest
from pipeline.core.text import say
from pipeline.science.data.tables import write_table
from wrapper.branch import Branch
from wrapper.store import Store, open_store

Frame = pd.DataFrame | pd.Series
Result = TypeVar("Result")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # what artifacts and files may be called


def preprocess_wrapper(function: Callable[..., Result]) -> Callable[..., Result]:
    """Read a CSV file, call the function with its columns, keep what it returns, and commit.

    The function takes ``X`` and ``y`` first, and returns a dict of frames and series. Further
    arguments of a call go to it; those of the decorator are:

    Args:
        wrapper_branch: the branch to commit to; made if there is none.
        wrapper_gitwd: a folder of the git repository.
        wrapper_data_path: the CSV file, relative to that folder.
        wrapper_target_cols: the target column, and ``y`` is a series; or a list, and it is a frame.
        wrapper_data_store: ``abfs://container/folder`` in Azure; without it, the tracker.

    Raises:
        PipelineError: files, index and branch are as they were.
    """

    @functools.wraps(function)
    def call(
        *args: Any,
        wrapper_branch: str,
        wrapper_gitwd: str | os.PathLike[str],
        wrapper_data_path: str | os.PathLike[str],
        wrapper_target_cols: str | Sequence[str],
        wrapper_data_store: str | None = None,
        **kwargs: Any,
    ) -> Result:
        name, id = function.__name__, f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
        branch = Branch(Path(wrapper_gitwd), wrapper_branch)
        source = inside(Path(wrapper_gitwd).resolve(), Path(wrapper_data_path))
        features, target = separate(read(source), wrapper_target_cols)
        store = open_store(wrapper_data_store, name, id)
        digest, tree = file_digest(source), branch.tree([source])
        result = function(features, target, *args, **kwargs)
        check(name, result)
        path = source.relative_to(branch.top).as_posix()
        about: dict[str, Any] = {"id": id, "function": name, "source": {"path": path}}
        with store:
            about["source"] |= store.save(artifact_name(source.name), source, "raw_data")
            if about["source"]["digest"] != digest:
                raise PipelineError(f"{source} changed while {name}() ran", "call it again")
            about["data"] = keep(result, name, store)
            message = f"{name}: data {id}\n\n{listed(about['data'])}"
            text = json.dumps(about, indent=1) + "\n"
            commit = branch.commit(tree, message, {f"{name}.json": text})
        say(f"{name}: data {id} is in commit {commit[:10]} on {wrapper_branch}")
        return result

    return call


def inside(folder: Path, path: Path) -> Path:
    """A file below a folder.

    Raises:
        PipelineError: it is elsewhere, or not there.
    """
    found = folder / path
    if path.is_absolute() or ".." in path.parts:
        raise PipelineError(
            f"wrapper_data_path={str(path)!r} leads out of wrapper_gitwd ({folder})",
            "name a file, or a link to one, in that folder",
        )
    if not found.is_file():
        near = did_you_mean(path.name, (f.name for f in found.parent.glob("*")))
        raise PipelineError(
            f"wrapper_data_path={str(path)!r}: there is no such file in {folder}{near}",
            "name it relative to wrapper_gitwd",
        )
    return found


def read(path: Path) -> pd.DataFrame:
    """A CSV file as pandas reads it.

    Raises:
        PipelineError: it is no table.
    """
    try:
        return pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise PipelineError(
            f"{path} is not a CSV file: {str(error).strip()}", "check wrapper_data_path"
        ) from error


def separate(table: pd.DataFrame, target: str | Sequence[str]) -> tuple[pd.DataFrame, Frame]:
    """The other columns and the target ones, each in the table's or the given order.

    Raises:
        PipelineError: there is no such column, or no other one.
    """
    names = [target] if isinstance(target, str) else [*target]
    for name in names:
        if name not in table:
            raise PipelineError(
                f"wrapper_target_cols names {name!r}, which the table lacks"
                f"{did_you_mean(name, table.columns)}",
                f"the columns are: {', '.join(map(str, table.columns))}",
            )
    features = table.drop(columns=names)
    if not names or features.empty:
        raise PipelineError(
            f"wrapper_target_cols={target!r} leaves no {'feature' if names else 'target'}",
            f"the columns are: {', '.join(map(str, table.columns))}",
        )
    return features, table[target if isinstance(target, str) else names]


def check(function: str, result: Any) -> None:
    """Make sure that a function's result can be kept.

    Raises:
        PipelineError: it is not a dict of frames and series, or a key can't be a file's name.
    """
    remedy = 'return a dict such as {"data_1": frame, "data_2": series}'
    if not isinstance(result, Mapping) or not result:
        shown = "an empty dict" if isinstance(result, Mapping) else type(result).__name__
        raise PipelineError(f"{function}() returned {shown}", remedy)
    for key, value in result.items():
        if not isinstance(value, Frame):
            kind = type(value).__name__
            raise PipelineError(f"{function}() returned {key!r} as {kind}", remedy)
        if not (isinstance(key, str) and NAME.fullmatch(key)):
            raise PipelineError(
                f"{function}() returned a frame as {key!r}, which can't be a file's name",
                "use letters, digits, dots, hyphens and underscores",
            )


def keep(frames: Mapping[str, Frame], function: str, store: Store) -> dict[str, dict[str, Any]]:
    """Keep each frame as a CSV file; how to find it."""
    found = {}
    with tempfile.TemporaryDirectory(prefix=f"{function}-") as folder:
        for key, frame in frames.items():
            path = write_table(flat(frame), Path(folder, f"{key}.csv"))
            about = store.save(artifact_name(f"{function}-{path.name}"), path, "processed_data")
            found[key] = {**about, "rows": len(frame)}
    return found


def flat(frame: Frame) -> pd.DataFrame:
    """A frame whose index is a column, where it is more than the rows' numbers."""
    if frame.index.names == [None] and pd.api.types.is_integer_dtype(frame.index.dtype):
        return pd.DataFrame(frame)
    return frame.reset_index()


def artifact_name(name: str) -> str:
    """A name without what an artifact's name can't have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def listed(data: Mapping[str, Mapping[str, Any]]) -> str:
    """Where each frame is, one a line."""
    places = ((key, about.get("artifact") or about["address"]) for key, about in data.items())
    return "\n".join(f"{key}: {place}" for key, place in places)
