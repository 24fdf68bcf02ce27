"""Looks at a table, decides how it is read and what is predicted, and writes that down."""

import itertools
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from pipeline.core import secrets
from pipeline.core.addresses import dataset_name, file_address
from pipeline.core.errors import PipelineError
from pipeline.core.files import write_whole
from pipeline.core.formats import detect_format
from pipeline.core.settings import ROOT
from pipeline.datasets import profile
from pipeline.science import tasks, training
from pipeline.science.data import cleaning, defects, formats, kinds, leaks, sniffing, tables
from pipeline.sources import fetching

USUAL = ["", "NA", "N/A", "NaN", "nan", "null"]
LARGEST = 1_000_000_000  # bytes, as data.max_bytes
TIMES = 4  # a way of writing numbers may hide another one
TRIES, TIMEOUT = 3, 30.0


def begin(
    source: str,
    target: str | None = None,
    name: str | None = None,
    force: bool = False,
    query: str | None = None,
    part: str | None = None,
    profiled: bool = True,
) -> Iterator[str]:
    """Write ``conf/data/NAME.yaml`` for a table; what was decided, a line each, and what runs it.

    Args:
        source: the path or the address of a data set.
        target: the column to predict; None proposes one.
        name: the data set's name; None takes the file's.
        force: write over a file that is there.
        query: what to ask a database for.
        part: the sheet of a workbook, or the file in a zip archive.
        profiled: write a page about each column, too.

    Raises:
        PipelineError: there is no such table, or the file is there already.
    """
    name = name or dataset_name(source)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise PipelineError(f"--name={name!r} can't name a data set", "use letters and digits")
    place = ROOT / "conf" / "data" / f"{name}.yaml"
    if place.exists() and not force:
        raise PipelineError(
            f"{place.relative_to(ROOT)} is there already", "give --name, or write over it: --force"
        )
    address = file_address(source)
    settings: list[Decision] = [
        ("main", "dataset", name, "after which project, artifacts and model are named"),
        ("data", "file_url", portable(address), "where the table is"),
    ]
    settings += [("data", "query", query, "what the database is asked")] if query else []
    with tempfile.TemporaryDirectory(prefix="init-") as folder:
        path = fetched(address, query, Path(folder))
        lines, decided, table = look(unpacked(path, Path(folder, "unpacked"), part), target, part)
    write_whole(place, page(name, [*settings, *lines]))
    yield from decided
    if profiled:
        yield profile.write(table, name, decided)
    yield f"wrote {place.relative_to(ROOT)}"
    yield f"run it: python main.py data={name}"


def portable(address: str) -> str:
    """An address as it is written down: of a file in this repository, right in every clone."""
    path = Path(unquote(urlsplit(address).path))
    if not address.startswith("file:") or not path.is_relative_to(ROOT):
        return address
    inside = path.relative_to(ROOT).as_posix()
    return f"${{root_url:{inside}}}" if re.fullmatch(r"[\w./-]+", inside) else address


def fetched(address: str, query: str | None, folder: Path) -> Path:
    """A data set as a file here, or as a folder of Parquet parts.

    Raises:
        PipelineError: there is none, or the address has a password in it.
    """
    if secrets.protect("data.file_url", address)[1]:
        raise PipelineError(
            "the address contains a password or a signature, which would be written down",
            "write the name of a variable in its place, '${oc.env:NAME}': docs/secrets.md",
        )
    asked = secrets.resolve(address)
    url = urlsplit(asked)
    path = Path(unquote(url.path))
    if url.scheme.lower() != "file" or path.is_dir():
        path = folder / "table"
        limits = LARGEST, TIMEOUT, TRIES
        try:
            fetching.fetch(asked, path, *limits, query)
        except PipelineError as error:
            raise PipelineError(secrets.shown(error.what), error.remedy) from error
    elif not path.is_file():
        raise PipelineError(
            f"there is no file {path}",
            "give a file, a folder of Parquet parts, a database's address with ?table=, or an URL",
        )
    fetching.check(path, secrets.shown(address), None)
    return path


def unpacked(path: Path, folder: Path, part: str | None) -> Path:
    """The table's file, out of its archive.

    Raises:
        PipelineError: it holds several, and none is named.
    """
    try:
        return formats.unpack(path, folder, part)
    except PipelineError as error:
        raise PipelineError(error.what, error.remedy.replace("etl.table=", "--table=")) from error


Decision = tuple[str, str, Any, str]  # section, key, value, reason


def look(
    path: Path, wanted: str | None, part: str | None = None
) -> tuple[list[Decision], list[str], pd.DataFrame]:
    """What is decided about a table: settings with their reasons, and lines to be read.

    With them the table itself, in the types that training has.
    """
    form: dict[str, Any] = {"part": part}
    told: list[Decision] = []
    if detect_format(path) == "csv":
        with path.open("rb") as file:
            start = file.read(1 << 18)
        form["encoding"] = sniffing.encoding(start)
        form["sep"] = sniffing.separator(start.decode(form["encoding"], errors="replace"))
        told.append(("etl", "sep", form["sep"], "between the cells"))
        told.append(("etl", "encoding", form["encoding"], "of the file"))
    if part:
        told.append(("etl", "table", part, "the sheet, or the file in the archive"))
    own: dict[str, Any] = {"missing": [], "decimal": ".", "thousands": "", "parse": {}}
    for _ in range(TIMES):
        table, said = clean(path, form, own)
        more = sniffing.settings(table, own)
        if not more:
            break
        more["missing"] = [*own["missing"], *more.get("missing", [])]
        own |= {**more, "parse": {**own["parse"], **more.get("parse", {})}}
    schema = kinds.schema(table)
    goal, why = sniffing.target(table, schema, wanted)
    whole = typed(table, schema)
    known = whole.dropna(subset=[goal])
    task, reason = tasks.decide(known[goal])
    drawn, because = sniffing.split(known, schema, goal, task)
    told += [
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
    lines += said
    lines += [
        f"warning: {name} alone tells {goal} almost exactly; if it is not known before: "
        f"model.drop=[{name}]"
        for name in suspects
    ]
    return told, lines, whole


PLAIN: tuple[Any, ...] = ([], {}, "", ".")
REASONS = {
    "missing": "cells that mean no value, beside the usual ones",
    "decimal": "the sign in 12.5",
    "thousands": "the sign in 1,234",
    "parse": "columns with more than a number in their cells",
}


def clean(path: Path, form: dict[str, Any], own: dict[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """The table as 2-ETL would leave it, and what it would say."""
    missing = [*USUAL, *own["missing"]]
    as_text = own["decimal"] != "." or bool(own["thousands"])
    raw = formats.read(path, missing=missing, text_columns=[*own["parse"]], as_text=as_text, **form)
    table, headers = defects.without_headers(raw.table)
    texts = [name for name in raw.texts if name not in own["parse"]]
    table, _ = cleaning.clean(table, [], {}, texts, missing, numbers=own)
    told = [f"note: {line}" for line in raw.notes]
    return table, told + [f"warning: {line}" for line in (*headers, *defects.doubts(table))]


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


def page(name: str, decided: list[Decision]) -> str:
    """The text of ``conf/data/NAME.yaml``."""
    lines = [
        "# @package _global_",
        "# Written by python -m pipeline init; edit what you know better",
        f"#   python main.py data={name}",
    ]
    for section, group in itertools.groupby(decided, key=lambda decision: decision[0]):
        lines += ["", f"{section}:"]
        for _, key, value, why in group:
            if key == "schema":
                lines += [f"  {key}: # {why}", *(f"    - {shown(rule)}" for rule in value)]
            else:
                lines.append(f"  {key}: {shown(value)} # {why}")
    return "\n".join(lines) + "\n"
