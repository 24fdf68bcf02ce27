"""Scores a file with a registered model, or serves the model, in the model's own environment."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import model_folder, settings
from pipeline.core.data.formats import detect_format, parquet_files
from pipeline.core.errors import PipelineError
from pipeline.core.security import hardening
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.models import environment as model_environment
from pipeline.models import registry

if TYPE_CHECKING:
    from pipeline.models.serving.settings import Serving

REASONS_SHOWN = 10


def predict(
    name: str,
    alias_or_number: str,
    source: Path,
    target: Path,
    env_manager: str,
    table: str | None = None,
    **options: Any,
) -> list[str]:
    """Score a file in a subprocess.

    Args:
        name, alias_or_number: the registered model, and its version.
        source: raw rows, in any format that the pipeline reads.
        target: the CSV file to write.
        env_manager: the tool that builds the model's environment.
        table: the sheet of a workbook, or the file in an archive.
        options: of :func:`pipeline.models.predict.predict`.

    Returns:
        Lines for the user.

    Raises:
        PipelineError: a file, the model, or a column is missing.
    """
    check_source(source)
    if not target.absolute().parent.is_dir():
        raise PipelineError(f"there is no folder {target.absolute().parent}", "check --output")
    if target.exists() and (target.is_dir() or target.samefile(source)):
        raise PipelineError(f"--output {target} can't be written over", "name another file")
    version = registry.find(name, alias_or_number)
    folder = registry.fetch(version)
    warnings = [f"warning: {text}" for text in registry.cleaning_warnings(version, folder)]
    python = model_environment.python(folder, env_manager)
    with as_csv(source, folder, table) as rows:
        arguments = {
            key: value for key, value in (options | rows.form).items() if value is not None
        }
        files = [str(folder), str(rows.path.absolute()), str(target.absolute())]
        process = subprocess.run(
            [str(python), "-m", "pipeline.models.predict", *files, json.dumps(arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            umask=hardening.users_umask(),  # the file is the user's
        )
    if process.returncode:
        raise _failure(process.stderr, rows.notes)
    summary = json.loads(process.stdout.splitlines()[-1])
    label = f"{name} version {version.number}"
    lines = [f"{summary['scored']:,} of {summary['rows']:,} rows scored with {label}: {target}"]
    reasons = sorted(summary["reasons"].items(), key=lambda item: -item[1])
    lines += [
        f"{count:,} not scored because of {kind}; {summary['first'][kind]}"
        for kind, count in reasons[:REASONS_SHOWN]
    ]
    return warnings + rows.notes + lines


def check_source(source: Path) -> None:
    """Check that the input exists.

    Raises:
        PipelineError: it is neither a file nor a folder of Parquet files.
    """
    if not source.is_file() and not (source.is_dir() and parquet_files(source)):
        raise PipelineError(f"there is no file {source}", "check --input")


@dataclass(frozen=True)
class Rows:
    """Rows to score, as a CSV file.

    Attributes:
        path: the file.
        form: its dialect, where it differs from that of the training data.
        notes: decisions of the conversion, for the user.
    """

    path: Path
    form: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def as_csv(source: Path, model: Path, table: str | None = None) -> Iterator[Rows]:
    """Convert rows of any format to a temporary CSV file; a CSV file is used in place.

    Args:
        source: the file, or a folder of Parquet files.
        model: the folder of the model; its training data determines the decimal sign.
        table: the sheet of a workbook, or the file in an archive.

    Raises:
        PipelineError: the source is not a table.
    """
    if detect_format(source) == "csv":
        yield Rows(source)
        return
    from pipeline.science.data import formats

    decimal = model_folder.preparation(model)["cleaning"].get("decimal") or "."
    with tempfile.TemporaryDirectory(prefix="rows-") as folder:
        try:
            rows = Rows(formats.unpack(source, Path(folder, "unpacked"), table))
            if detect_format(rows.path) != "csv":
                written = Path(folder, source.name)
                notes = formats.write_csv(rows.path, written, table, decimal)
                rows = Rows(written, {"sep": ",", "encoding": "utf-8"}, notes)
        except PipelineError as error:
            message, remedy = (text.replace("etl.table", "--table") for text in error.args)
            raise PipelineError(message, remedy) from error
        yield replace(rows, notes=[note.replace("etl.table=", "--table=") for note in rows.notes])


def _failure(stderr: str, notes: list[str]) -> PipelineError:
    """The error that the subprocess printed as JSON, or its last line, with the notes."""
    last = stderr.strip().splitlines()[-1:] or ["it exited without a message (out of memory?)"]
    try:
        message, remedy = json.loads(last[0])
        return PipelineError("\n".join([message, *notes]), remedy)
    except (ValueError, TypeError):
        return PipelineError(f"the file could not be scored: {last[0]}", "nothing was written")


def serve(name: str, alias_or_number: str, serving: "Serving", env_manager: str) -> None:
    """Replace this process by the server of a version; does not return.

    Args:
        name, alias_or_number: the registered model, and its version.
        serving: the server's settings.
        env_manager: the tool that builds the model's environment.

    Raises:
        PipelineError: there is no such version.
    """
    version = registry.find(name, alias_or_number)
    folder = registry.fetch(version)
    for text in registry.cleaning_warnings(version, folder):
        say(f"warning: {text}", file=sys.stderr)
    if not _is_loopback(serving.host):
        say(
            f"warning: there is no login: everyone who can reach {serving.host} can use the model",
            file=sys.stderr,
        )
    python = str(model_environment.python(folder, env_manager))
    label = {
        "name": name,
        "version": version.number,
        "run": version.run,
        "commit": version.commit,
        "metrics": version.metrics,
    }
    options = {"label": label, "wanted": alias_or_number, **asdict(serving)}
    variables = {
        "PYTHONPATH": str(ROOT),
        settings.STATE_DIR: str(settings.state_dir()),
        "MLFLOW_TRACKING_URI": settings.tracking_uri(),
    }
    sys.stdout.flush()
    os.chdir(ROOT)  # relative paths of the user are resolved by now
    command = [python, "-m", "pipeline.models.serving.server", str(folder), json.dumps(options)]
    os.execve(python, command, {**os.environ, **variables})


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
