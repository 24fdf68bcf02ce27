"""A decorator for a function that computes tables from a CSV file."""

import functools
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import pandas as pd

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.files import file_digest
from pipeline.core.text import say
from pipeline.science.data.tables import write_table
from wrapper.branch import Branch
from wrapper.store import Store, open_store

Frame: TypeAlias = pd.DataFrame | pd.Series
Result = TypeVar("Result")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # valid for artifacts and files


def preprocess_wrapper(function: Callable[..., Result]) -> Callable[..., Result]:
    """Read a CSV file, call the function with its columns, store the results, and commit.

    The function takes ``X`` and ``y`` first, and returns a dict of frames and series. Other
    arguments of a call are passed to it. The decorator's own arguments are:

    Args:
        wrapper_branch: the branch to commit to; created if it does not exist.
        wrapper_gitwd: a folder of the git repository.
        wrapper_data_path: the CSV file, relative to that folder.
        wrapper_target_cols: the target column, for a series ``y``; or a list, for a frame.
        wrapper_data_store: ``abfs://container/folder`` in Azure; by default the tracker.

    Raises:
        PipelineError: the call failed; files, index and branch are unchanged.
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
        record: dict[str, Any] = {"id": id, "function": name, "source": {"path": path}}
        with store:
            record["source"] |= store.save(artifact_name(source.name), source, "raw_data")
            if record["source"]["digest"] != digest:
                raise PipelineError(f"{source} changed while {name}() ran", "call it again")
            record["data"] = keep(cast(Mapping[str, Frame], result), name, store)
            message = f"{name}: data {id}\n\n{listed(record['data'])}"
            text = json.dumps(record, indent=1) + "\n"
            commit = branch.commit(tree, message, {f"{name}.json": text})
        say(f"{name}: data {id} is in commit {commit[:10]} on {wrapper_branch}")
        return result

    return call


def inside(folder: Path, path: Path) -> Path:
    """The path of an existing file in a folder.

    Raises:
        PipelineError: the path leads out of the folder, or there is no such file.
    """
    file = folder / path
    if path.is_absolute() or ".." in path.parts:
        raise PipelineError(
            f"wrapper_data_path={str(path)!r} leads out of wrapper_gitwd ({folder})",
            "name a file, or a link to one, in that folder",
        )
    if not file.is_file():
        suggestion = did_you_mean(path.name, (f.name for f in file.parent.glob("*")))
        raise PipelineError(
            f"wrapper_data_path={str(path)!r}: there is no such file in {folder}{suggestion}",
            "name it relative to wrapper_gitwd",
        )
    return file


def read(path: Path) -> pd.DataFrame:
    """Read a CSV file.

    Raises:
        PipelineError: it is no CSV file.
    """
    try:
        return pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise PipelineError(
            f"{path} is not a CSV file: {str(error).strip()}", "check wrapper_data_path"
        ) from error


def separate(table: pd.DataFrame, target: str | Sequence[str]) -> tuple[pd.DataFrame, Frame]:
    """Split a table into features and target.

    Raises:
        PipelineError: a target column is missing, or no feature or target column is left.
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
    """Check that a function's result can be stored.

    Raises:
        PipelineError: it is not a dict of frames and series, or a key is no valid file name.
    """
    remedy = 'return a dict such as {"data_1": frame, "data_2": series}'
    if not isinstance(result, Mapping) or not result:
        returned = "an empty dict" if isinstance(result, Mapping) else type(result).__name__
        raise PipelineError(f"{function}() returned {returned}", remedy)
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
    """Store each frame as a CSV file; return the store's record of each, and its row count."""
    records = {}
    with tempfile.TemporaryDirectory(prefix=f"{function}-") as folder:
        for key, frame in frames.items():
            path = write_table(flat(frame), Path(folder, f"{key}.csv"))
            record = store.save(artifact_name(f"{function}-{path.name}"), path, "processed_data")
            records[key] = {**record, "rows": len(frame)}
    return records


def flat(frame: Frame) -> pd.DataFrame:
    """A frame with its index as a column, unless that only numbers the rows."""
    if frame.index.names == [None] and pd.api.types.is_integer_dtype(frame.index.dtype):
        return pd.DataFrame(frame)
    return frame.reset_index()


def artifact_name(name: str) -> str:
    """A name with the characters replaced that an artifact's name can't have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def listed(data: Mapping[str, Mapping[str, Any]]) -> str:
    """The location of each frame, one per line."""
    locations = ((key, record.get("artifact") or record["address"]) for key, record in data.items())
    return "\n".join(f"{key}: {location}" for key, location in locations)
