"""Inspects a table, and writes the configuration that reads it and trains on it."""

import itertools
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd

from pipeline.core.data.addresses import dataset_name, file_address
from pipeline.core.data.formats import detect_format
from pipeline.core.errors import PipelineError
from pipeline.core.files import write_whole
from pipeline.core.security import secrets
from pipeline.core.settings import ROOT
from pipeline.datasets import profile
from pipeline.science import tasks, training
from pipeline.science.data import (
    cleaning,
    defects,
    formats,
    headers,
    kinds,
    leaks,
    sniffing,
    tables,
)
from pipeline.sources import fetching

USUAL = ["", "NA", "N/A", "NaN", "nan", "null"]
LARGEST = 1_000_000_000  # bytes, as data.max_bytes
PASSES = 4  # a detected number format may reveal another one
TRIES, TIMEOUT = 3, 30.0


def write_config(
    source: str,
    target: str | None = None,
    name: str | None = None,
    force: bool = False,
    query: str | None = None,
    part: str | None = None,
    profiled: bool = True,
) -> Iterator[str]:
    """Write ``conf/data/NAME.yaml`` for a table; yield the decisions and the command to run.

    Args:
        source: the path or the address of a data set.
        target: the column to predict; None proposes one.
        name: the data set's name; None uses the file's name.
        force: overwrite an existing file.
        query: the SQL query for a database.
        part: the sheet of a workbook, or the file in a zip archive.
        profiled: also write a page about each column.

    Raises:
        PipelineError: The table does not exist, or the file exists already.
    """
    name = name or dataset_name(source)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise PipelineError(f"--name={name!r} can't name a data set", "use letters and digits")
    config_file = ROOT / "conf" / "data" / f"{name}.yaml"
    if config_file.exists() and not force:
        raise PipelineError(
            f"{config_file.relative_to(ROOT)} exists already",
            "choose another --name, or overwrite it: --force",
        )
    address = file_address(source)
    settings: list[Decision] = [
        ("main", "dataset", name, "names the project, the artifacts and the model"),
        ("data", "file_url", portable(address), "where the table is"),
    ]
    settings += [("data", "query", query, "the query for the database")] if query else []
    with tempfile.TemporaryDirectory(prefix="init-") as folder:
        path = fetched(address, query, Path(folder))
        path = unpacked(path, Path(folder, "unpacked"), part)
        lines, report, table = decide(path, Path(folder, "titled"), target, part)
    write_whole(config_file, config_text(name, [*settings, *lines]))
    yield from report
    if profiled:
        yield profile.write(table, name, report)
    yield f"wrote {config_file.relative_to(ROOT)}"
    yield f"run it: python main.py data={name}"


def portable(address: str) -> str:
    """An address as it is written to the file; files of this repository work in every clone."""
    path = Path(unquote(urlsplit(address).path))
    if not address.startswith("file:") or not path.is_relative_to(ROOT):
        return address
    inside = path.relative_to(ROOT).as_posix()
    return f"${{root_url:{inside}}}" if re.fullmatch(r"[\w./-]+", inside) else address


def fetched(address: str, query: str | None, folder: Path) -> Path:
    """Fetch a data set as a local file, or as a folder of Parquet parts.

    Raises:
        PipelineError: There is no data set, or the address contains a password.
    """
    if secrets.protect("data.file_url", address)[1]:
        raise PipelineError(
            "the address contains a password or a signature, which would be saved in the file",
            "use an environment variable instead, '${oc.env:NAME}': docs/secrets.md",
        )
    resolved = secrets.resolve(address)
    url = urlsplit(resolved)
    path = Path(unquote(url.path))
    if url.scheme.lower() != "file" or path.is_dir():
        path = folder / "table"
        limits = LARGEST, TIMEOUT, TRIES
        try:
            fetching.fetch(resolved, path, *limits, query)
        except PipelineError as error:
            raise PipelineError(secrets.for_display(error.what), error.remedy) from error
    elif not path.is_file():
        raise PipelineError(
            f"there is no file {path}",
            "give a file, a folder of Parquet parts, a database's address with ?table=, or a URL",
        )
    fetching.check(path, secrets.for_display(address), None)
    return path


def unpacked(path: Path, folder: Path, part: str | None) -> Path:
    """Extract the table's file from its archive.

    Raises:
        PipelineError: The archive has several files, and ``part`` is None.
    """
    try:
        return formats.unpack(path, folder, part)
    except PipelineError as error:
        raise PipelineError(error.what, error.remedy.replace("etl.table=", "--table=")) from error


Decision = tuple[str, str, Any, str]  # section, key, value, reason


def decide(
    path: Path, folder: Path, target: str | None, part: str | None = None
) -> tuple[list[Decision], list[str], pd.DataFrame]:
    """Decide the settings for a table.

    Args:
        path: the table's file.
        folder: the folder for a copy with titles, if the file needs one.
        target: the column to predict; None proposes one.
        part: the sheet of a workbook, or the file in a zip archive.

    Returns:
        The settings with their reasons, lines to print, and the table in the types of training.
    """
    options: dict[str, Any] = {"part": part}
    decisions: list[Decision] = []
    if detect_format(path) == "csv":
        with path.open("rb") as file:
            start = file.read(1 << 18)
        options["encoding"] = sniffing.encoding(start)
        text = start.decode(options["encoding"], errors="replace")
        options["sep"] = sniffing.separator(text)
        decisions.append(("etl", "sep", options["sep"], "between the cells"))
        decisions.append(("etl", "encoding", options["encoding"], "of the file"))
        titles = sniffing.titles(text, options["sep"])
        decisions += [("etl", key, value, REASONS[key]) for key, value in titles.items()]
        path = headers.with_titles(
            path, folder, **titles, sep=options["sep"], encoding=options["encoding"]
        )
    if part:
        decisions.append(("etl", "table", part, "the sheet, or the file in the archive"))
    detected: dict[str, Any] = {"missing": [], "decimal": ".", "thousands": "", "parse": {}}
    for _ in range(PASSES):
        table, messages = clean(path, options, detected)
        added = sniffing.settings(table, detected)
        if not added:
            break
        missing = [*detected["missing"], *added.get("missing", [])]
        parse = {**detected["parse"], **added.get("parse", {})}
        detected |= {**added, "missing": missing, "parse": parse}
    schema = kinds.schema(table)
    target, target_reason = sniffing.target(table, schema, target)
    typed_table = typed(table, schema)
    labelled = typed_table.dropna(subset=[target])
    task, task_reason = tasks.decide(labelled[target])
    split, split_reason = sniffing.split(labelled, schema, target, task)
    cells = [(key, value) for key, value in detected.items() if value not in PLAIN]
    decisions += [
        ("etl", "required", ["${model.target}"], "other gaps are imputed in training"),
        *(("etl", key, value, REASONS[key]) for key, value in cells),
        ("etl", "schema", rules(table), "each column's type; violations are reported"),
        *(("split", key, value, split_reason) for key, value in split.items()),
        ("model", "target", target, target_reason),
        ("model", "task", task, task_reason.partition("(")[2].partition(";")[0].rstrip(")")),
    ]
    _, useless = kinds.features(schema, target, [], [])
    features = labelled.drop(columns=[target, *useless], errors="ignore")
    suspects = leaks.find_leaks(features, labelled[target], task == tasks.CLASSIFICATION)
    lines = [f"{len(table)} rows, {table.shape[1]} columns"]
    lines += [
        f"{key}: {shown(value)} ({reason})"
        for _, key, value, reason in decisions
        if key != "schema"
    ]
    columns = [column for column in schema["columns"] if column["column"] != target]
    lines += [
        f"{column['column']}: {KINDS.get(column['kind'], column['kind'])}" for column in columns
    ]
    lines += [f"{name} is no feature: {reason}" for name, reason in useless.items()]
    lines += messages
    lines += [
        f"warning: {name} alone predicts {target} almost perfectly: if it is known only after "
        f"{target}, leave it out: model.drop=[{name}]"
        for name in suspects
    ]
    return decisions, lines, typed_table


KINDS = {"many": "category with many values (many)", "truth": "true or false (truth)"}
PLAIN: tuple[Any, ...] = ([], {}, "", ".")
REASONS = {
    "skip_lines": "lines above the table",
    "titles": "the file has none; rename them as you like",
    "missing": "cells without a value, besides the usual ones",
    "decimal": "the sign in 12.5",
    "thousands": "the sign in 1,234",
    "parse": "columns with more than a number in their cells",
}


def clean(
    path: Path, options: dict[str, Any], detected: dict[str, Any]
) -> tuple[pd.DataFrame, list[str]]:
    """The table after 2-ETL's cleaning, with the notes and warnings of 2-ETL."""
    missing = [*USUAL, *detected["missing"]]
    as_text = detected["decimal"] != "." or bool(detected["thousands"])
    raw = formats.read(
        path, missing=missing, text_columns=[*detected["parse"]], as_text=as_text, **options
    )
    table, repeated = defects.without_headers(raw.table)
    texts = [name for name in raw.texts if name not in detected["parse"]]
    table, _ = cleaning.clean(table, [], {}, texts, missing, numbers=detected)
    warnings = [*repeated, *defects.text_warnings(table), *defects.number_warnings(table)]
    notes = [f"note: {line}" for line in raw.notes]
    return table, notes + [f"warning: {line}" for line in warnings]


def typed(table: pd.DataFrame, schema: dict[str, Any]) -> pd.DataFrame:
    """The table in the types that training has."""
    with tempfile.TemporaryDirectory(prefix="init-") as folder:
        path = tables.write_table(table, Path(folder, "clean.csv"))
        return training.read_table(path, schema=schema)


def rules(table: pd.DataFrame) -> list[dict[str, Any]]:
    """``etl.schema``: each column's type, and whether values may be missing."""
    column_rules = []
    for name in table:
        rule = {"column": str(name), "dtype": kinds.dtype(table[name])}
        column_rules.append({**rule, "nullable": True} if table[name].isna().any() else rule)
    return column_rules


def shown(value: Any) -> str:
    """A value as YAML."""
    return json.dumps(value, ensure_ascii=False)


def config_text(name: str, decisions: list[Decision]) -> str:
    """The text of ``conf/data/NAME.yaml``."""
    lines = [
        "# @package _global_",
        "# Written by python -m pipeline init; edit it as you like",
        f"#   python main.py data={name}",
    ]
    for section, group in itertools.groupby(decisions, key=lambda decision: decision[0]):
        lines += ["", f"{section}:"]
        for _, key, value, why in group:
            if key == "schema":
                lines += [f"  {key}: # {why}", *(f"    - {shown(rule)}" for rule in value)]
            else:
                lines.append(f"  {key}: {shown(value)} # {why}")
    return "\n".join(lines) + "\n"
