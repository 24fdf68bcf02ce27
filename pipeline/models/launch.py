"""Looks a model up, and scores a file or serves it in its own environment."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import hardening, settings
from pipeline.core.errors import PipelineError
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.models import environment as model_environment
from pipeline.models import registry

if TYPE_CHECKING:
    from pipeline.models.serving.settings import Serving

SHOWN = 10


def predict(
    name: str, wanted: str, source: Path, target: Path, env_manager: str, **options: Any
) -> list[str]:
    """Score a file; lines for the user.

    Args:
        name, wanted: the registered model, and an alias or number of its version.
        source, target: CSV files.
        env_manager: who builds the model's environment.
        options: of :func:`pipeline.models.predict.predict`.

    Raises:
        PipelineError: a file, the model, or a column is not there.
    """
    if not source.is_file():
        raise PipelineError(f"there is no file {source}", "check --input")
    if not target.absolute().parent.is_dir():
        raise PipelineError(f"there is no folder {target.absolute().parent}", "check --output")
    if target.exists() and (target.is_dir() or target.samefile(source)):
        raise PipelineError(f"--output {target} can't be written over", "name another file")
    version = registry.find(name, wanted)
    folder = registry.fetch(version)
    warnings = [f"warning: {text}" for text in registry.drift(version, folder)]
    given = {key: value for key, value in options.items() if value is not None}
    files = [str(folder), str(source.absolute()), str(target.absolute())]
    python = model_environment.python(folder, env_manager)
    command = [str(python), "-m", "pipeline.models.predict", *files, json.dumps(given)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        umask=hardening.users_umask(),  # the file is the user's
    )
    if done.returncode:
        raise _failure(done.stderr)
    told = json.loads(done.stdout.splitlines()[-1])
    label = f"{name} version {version.number}"
    lines = [f"{told['scored']:,} of {told['rows']:,} rows scored with {label}: {target}"]
    reasons = sorted(told["reasons"].items(), key=lambda item: -item[1])
    lines += [f"{n:,} not, {kind}; {told['first'][kind]}" for kind, n in reasons[:SHOWN]]
    return warnings + lines


def _failure(stderr: str) -> PipelineError:
    """The program's own words, or the end of what it said."""
    last = stderr.strip().splitlines()[-1:] or ["it ended without a word (out of memory?)"]
    try:
        return PipelineError(*json.loads(last[0]))
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
