"""``python -m pipeline predict``: looks a model up, and scores a file in its environment."""

import json
import subprocess
from pathlib import Path
from typing import Any

from pipeline import ROOT, model_environment, registry
from pipeline.errors import PipelineError

SHOWN = 10


def predict(
    name: str, wanted: str, source: Path, target: Path, env_manager: str, **options: Any
) -> list[str]:
    """Score a file; lines for the user.

    Args:
        name, wanted: the registered model, and an alias or number of its version.
        source, target: CSV files.
        env_manager: who builds the model's environment.
        options: of :func:`pipeline.predict.predict`.

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
    warnings = [f"warning: {text}" for text in registry.drift(version)]
    given = {key: value for key, value in options.items() if value is not None}
    files = [str(folder), str(source.absolute()), str(target.absolute())]
    python = model_environment.python(folder, env_manager)
    command = [str(python), "-m", "pipeline.predict", *files, json.dumps(given)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
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
