"""Looks a model up, and scores a file or serves it in its own environment."""

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

from pipeline.core import hardening, model_folder, settings
from pipeline.core.errors import PipelineError
from pipeline.core.formats import detect_format, parquet_files
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.models import environment as model_environment
from pipeline.models import registry

if TYPE_CHECKING:
    from pipeline.models.serving.settings import Serving

SHOWN = 10


def predict(
    name: str,
    wanted: str,
    source: Path,
    target: Path,
    env_manager: str,
    table: str | None = None,
    **options: Any,
) -> list[str]:
    """Score a file; lines for the user.

    Args:
        name, wanted: the registered model, and an alias or number of its version.
        source: rows, in any format that the pipeline takes.
        target: a CSV file.
        env_manager: who builds the model's environment.
        table: which one of an archive's files or a workbook's sheets it is.
        options: of :func:`pipeline.models.predict.predict`.

    Raises:
        PipelineError: a file, the model, or a column is not there.
    """
    check_source(source)
    if not target.absolute().parent.is_dir():
        raise PipelineError(f"there is no folder {target.absolute().parent}", "check --output")
    if target.exists() and (target.is_dir() or target.samefile(source)):
        raise PipelineError(f"--output {target} can't be written over", "name another file")
    version = registry.find(name, wanted)
    folder = registry.fetch(version)
    warnings = [f"warning: {text}" for text in registry.drift(version, folder)]
    python = model_environment.python(folder, env_manager)
    with as_csv(source, folder, table) as rows:
        given = {key: value for key, value in (options | rows.form).items() if value is not None}
        files = [str(folder), str(rows.path.absolute()), str(target.absolute())]
        done = subprocess.run(
            [str(python), "-m", "pipeline.models.predict", *files, json.dumps(given)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            umask=hardening.users_umask(),  # the file is the user's
        )
    if done.returncode:
        raise _failure(done.stderr, rows.notes)
    told = json.loads(done.stdout.splitlines()[-1])
    label = f"{name} version {version.number}"
    lines = [f"{told['scored']:,} of {told['rows']:,} rows scored with {label}: {target}"]
    reasons = sorted(told["reasons"].items(), key=lambda item: -item[1])
    lines += [f"{n:,} not, {kind}; {told['first'][kind]}" for kind, n in reasons[:SHOWN]]
    return warnings + rows.notes + lines


def check_source(source: Path) -> None:
    """Refuse rows that are not there.

    Raises:
        PipelineError: there is no such file, nor a folder of Parquet files.
    """
    if not source.is_file() and not (source.is_dir() and parquet_files(source)):
        raise PipelineError(f"there is no file {source}", "check --input")


@dataclass(frozen=True)
class Rows:
    """Rows to be scored, as a CSV file.

    Attributes:
        path: the file.
        form: its dialect, if it is not that of the training data.
        notes: what was decided when it was written.
    """

    path: Path
    form: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@contextlib.contextmanager
def as_csv(source: Path, model: Path, table: str | None = None) -> Iterator[Rows]:
    """Rows of any format as a CSV file, which is temporary if it had to be written.

    Args:
        source: the file, or a folder of Parquet files.
        model: the folder of the model, which tells how its training data wrote numbers.
        table: which one of an archive's files or a workbook's sheets it is.

    Raises:
        PipelineError: it is no table.
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
            what, remedy = (text.replace("etl.table", "--table") for text in error.args)
            raise PipelineError(what, remedy) from error
        said = [note.replace("etl.table=", "--table=") for note in rows.notes]
        yield replace(rows, notes=said)


def _failure(stderr: str, notes: list[str]) -> PipelineError:
    """The program's own words, or the end of what it said; and how the file was read."""
    last = stderr.strip().splitlines()[-1:] or ["it ended without a word (out of memory?)"]
    try:
        what, remedy = json.loads(last[0])
        return PipelineError("\n".join([what, *notes]), remedy)
    except (ValueError, TypeError):
        return PipelineError(f"the file could not be scored: {last[0]}", "nothing was written")


def serve(name: str, wanted: str, serving: "Serving", env_manager: str) -> None:
    """Replace this process by the server of a version; this does not return.

    Args:
        name, wanted: the registered model, and an alias or number of its version.
        serving: where, and within which limits.
        env_manager: who builds the model's environment.

    Raises:
        PipelineError: the version is not there.
    """
    version = registry.find(name, wanted)
    folder = registry.fetch(version)
    for text in registry.drift(version, folder):
        say(f"warning: {text}", file=sys.stderr)
    if not _loopback(serving.host):
        say(f"warning: whoever reaches {serving.host} can ask; there is no login", file=sys.stderr)
    python = str(model_environment.python(folder, env_manager))
    label = {
        "name": name,
        "version": version.number,
        "run": version.run,
        "commit": version.commit,
        "metrics": version.metrics,
    }
    options = {"label": label, "wanted": wanted, **asdict(serving)}
    told = {
        "PYTHONPATH": str(ROOT),
        settings.STATE_DIR: str(settings.state_dir()),
        "MLFLOW_TRACKING_URI": settings.tracking_uri(),
    }
    sys.stdout.flush()
    os.chdir(ROOT)  # after this, relative paths are no longer those of the user
    command = [python, "-m", "pipeline.models.serving.server", str(folder), json.dumps(options)]
    os.execve(python, command, {**os.environ, **told})


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
