"""Looks at a table, decides how it is read and what is predicted, and writes that down."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import requests

from pipeline.core.errors import PipelineError
from pipeline.core.files import write_whole
from pipeline.core.secrets import has_login
from pipeline.core.settings import ROOT
from pipeline.science import tasks, training
from pipeline.science.data import cleaning, defects, kinds, leaks, sniffing, tables

USUAL = ["", "NA", "N/A", "NaN", "nan", "null"]
LARGEST = 1_000_000_000  # bytes, as data.max_bytes
TIMES = 4  # a way of writing numbers may hide another one


def begin(source: str, target: str | None, name: str | None, force: bool) -> Iterator[str]:
    """Write ``conf/data/NAME.yaml`` for a table; what was decided, a line each, and what runs it.

    Args:
        source: a CSV file or its address.
        target: the column to predict; None proposes one.
        name: the data set's name; None takes the file's.
        force: write over a file that is there.

    Raises:
        PipelineError: there is no such table, or the file is there already.
    """
    stem = re.sub(r"\W+", "_", Path(source.partition("?")[0]).name.partition(".")[0]).strip("_")
    name = name or stem.lower() or "table"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise PipelineError(f"--name={name!r} can't name a data set", "use letters and digits")
    place = ROOT / "conf" / "data" / f"{name}.yaml"
    if place.exists() and not force:
        raise PipelineError(
            f"{place.relative_to(ROOT)} is there already", "give --name, or write over it: --force"
        )
    with tempfile.TemporaryDirectory(prefix="init-") as folder:
        path, address = fetched(source, Path(folder))
        lines, decided = look(path, target)
    write_whole(place, page(name, address, lines))
    yield from decided
    yield f"wrote {place.relative_to(ROOT)}"
    yield f"run it: python main.py data={name}"


def fetched(source: str, folder: Path) -> tuple[Path, str]:
    """A table as a file here, and its address.

    Raises:
        PipelineError: there is none.
    """
    if re.match(r"https?://", source):
        if has_login(source):
            raise PipelineError("the address contains a password", "put it into ~/.netrc")
        path = folder / "table.csv"
        try:
            with requests.get(source, stream=True, timeout=30) as answer, path.open("wb") as file:
                answer.raise_for_status()
                for chunk in answer.iter_content(1 << 16):
                    file.write(chunk)
                    if file.tell() > LARGEST:
                        raise PipelineError(f"{source} is larger than {LARGEST} bytes", "")
        except requests.RequestException as error:
            raise PipelineError(f"{source} can't be fetched: {error}", "check it") from error
        return path, source
    path = Path(source.removeprefix("file://")).expanduser().absolute()
    if not path.is_file():
        raise PipelineError(f"there is no file {path}", "give a CSV file or its address")
    return path, path.as_uri()


Decision = tuple[str, str, Any, str]  # section, key, value, reason


def look(path: Path, wanted: str | None) -> tuple[list[Decision], list[str]]:
    """What is decided about a table: settings with their reasons, and lines to be read."""
    with path.open("rb") as file:
        start = file.read(1 << 18)
    encoding = sniffing.encoding(start)
    sep = sniffing.separator(start.decode(encoding, errors="replace"))
    own: dict[str, Any] = {"missing": [], "decimal": ".", "thousands": "", "parse": {}}
    for _ in range(TIMES):
        table, said = clean(path, sep, encoding, own)
        more = sniffing.settings(table, own)
        if not more:
            break
        more["missing"] = [*own["missing"], *more.get("missing", [])]
        own |= {**more, "parse": {**own["parse"], **more.get("parse", {})}}
    schema = kinds.schema(table)
    goal, why = sniffing.target(table, schema, wanted)
    known = typed(table, schema).dropna(subset=[goal])
    task, reason = tasks.decide(known[goal])
    drawn, because = sniffing.split(known, schema, goal, task)
    told: list[Decision] = [
        ("etl", "sep", sep, "between the cells"),
        ("etl", "encoding", encoding, "of the file"),
        ("etl", "required", ["${model.target}"], "other gaps are imputed in training"),
        *(("etl", key, value, REASONS[key]) for key, value in own.items() if value not in PLAIN),
        ("etl", "schema", rules(table), "each column's type; what breaks it is named"),
        *(("split", key, value, because) for key, value in drawn.items()),
        ("model", "target", goal, why),
        ("model", "task", task, reason.partition("(")[2].partition(";")[0].rstrip(")")),
    ]
    _, useless = kinds.features(schema, goal, [], [])
    features = known.drop(columns=[goal, *useless], errors="ignore")
    suspects = leaks.leaks(features, known[goal], task == tasks.CLASSIFICATION)
    lines = [f"{len(table)} rows, {table.shape[1]} columns"]
    lines += [
        f"{key}: {shown(value)} ({reason})" for _, key, value, reason in told if key != "schema"
    ]
    lines += [f"{c['column']}: {c['kind']}" for c in schema["columns"] if c["column"] != goal]
    lines += [f"{name} is no feature: {why}" for name, why in useless.items()]
    lines += [f"warning: {line}" for line in said]
    lines += [
        f"warning: {name} alone tells {goal} almost exactly; if it is not known before: "
        f"model.drop=[{name}]"
        for name in suspects
    ]
    return told, lines


PLAIN: tuple[Any, ...] = ([], {}, "", ".")
REASONS = {
    "missing": "cells that mean no value, beside the usual ones",
    "decimal": "the sign in 12.5",
    "thousands": "the sign in 1,234",
    "parse": "columns with more than a number in their cells",
}


def clean(
    path: Path, sep: str, encoding: str, own: dict[str, Any]
) -> tuple[pd.DataFrame, list[str]]:
    """The table as 2-ETL would leave it, and what it would warn about."""
    missing = [*USUAL, *own["missing"]]
    as_text = own["decimal"] != "." or bool(own["thousands"])
    raw = tables.read_raw(path, sep, encoding, missing, [*own["parse"]], as_text)
    defects.check_quotes(raw, sep)
    raw, headers = defects.without_headers(raw)
    table, _ = cleaning.clean(raw, [], {}, [], missing, numbers=own)
    return table, [*headers, *defects.doubts(table)]


def typed(table: pd.DataFrame, schema: dict[str, Any]) -> pd.DataFrame:
    """The table in the types that training has."""
    with tempfile.TemporaryDirectory(prefix="init-") as folder:
        path = tables.write_table(table, Path(folder, "clean.csv"))
        return training.read_table(path, schema=schema)


def rules(table: pd.DataFrame) -> list[dict[str, Any]]:
    """``etl.schema``: each column's type, and whether it has gaps."""
    told = []
    for name in table:
        rule = {"column": str(name), "dtype": kinds.dtype(table[name])}
        told.append({**rule, "nullable": True} if table[name].isna().any() else rule)
    return told


def shown(value: Any) -> str:
    """A value as it stands in a YAML file."""
    return json.dumps(value, ensure_ascii=False)


def page(name: str, address: str, decided: list[Decision]) -> str:
    """The text of ``conf/data/NAME.yaml``."""
    names = {
        "main": [("project_name", name, "project in the tracker")],
        "data": [
            ("file_url", address, "where the table is"),
            ("artifact_name", f"{name}.csv", "the raw artifact's name"),
        ],
        "etl": [("artifact_name", f"{name}-clean.csv", "the clean artifact's name")],
        "split": [
            ("train_artifact_name", f"{name}-train.csv", "the training part's name"),
            ("test_artifact_name", f"{name}-test.csv", "the test part's name"),
        ],
        "model": [],
    }
    lines = [
        "# @package _global_",
        "# Written by python -m pipeline init; edit what you know better",
        f"#   python main.py data={name}",
    ]
    for section, first in names.items():
        lines += ["", f"{section}:"]
        rest = [(key, value, why) for part, key, value, why in decided if part == section]
        for key, value, why in [*first, *rest]:
            if key == "schema":
                lines += [f"  {key}: # {why}", *(f"    - {shown(rule)}" for rule in value)]
            else:
                lines.append(f"  {key}: {shown(value)} # {why}")
    return "\n".join(lines) + "\n"
