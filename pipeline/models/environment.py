"""Builds the environment that a registered model was trained in, to load and serve it."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import last_lines, write_whole
from pipeline.core.lock_files import locked
from pipeline.core.settings import ROOT
from pipeline.orchestration.execution import environments

# Packages that this project's code needs, beside those of the model
OWN_PACKAGES = ("filelock", "pandera", "pyarrow", "pyyaml")
PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[A-Za-z0-9._+!-]+")
BUILD = (
    "import sys; from pathlib import Path; "
    "from pipeline.orchestration.execution import environments; "
    "environments.prepare_process(); environments.build(Path(sys.argv[1]), sys.argv[2])"
)


def python(model: Path, env_manager: str) -> Path:
    """Build the environment of a model if it does not exist yet.

    Args:
        model: the folder of the model.
        env_manager: ``uv`` or ``virtualenv``; ``local`` uses this process's environment.

    Returns:
        The environment's Python interpreter.

    Raises:
        PipelineError: the build fails, or a requirement is not a package at an exact version.
    """
    if env_manager == "local":
        return Path(sys.executable)
    lines = (model / "requirements.txt").read_text(encoding="utf-8").split("\n")
    pins = dict.fromkeys(line.strip() for line in lines if line.strip())
    invalid = [line for line in pins if not PINNED.fullmatch(line)]
    if invalid:
        raise PipelineError(
            f"the model requires {invalid[0]!r}, which is not a package at an exact version",
            "train the model again with the training step of this repository",
        )
    versions = locked()
    pins |= dict.fromkeys(f"{name}=={versions[name]}" for name in OWN_PACKAGES)
    requirements = "".join(f"      - {pin}\n" for pin in pins)
    head = "name: model\nchannels: [conda-forge]\ndependencies:\n"
    text = f"{head}  - python={environments.PYTHON}\n  - pip\n  - pip:\n{requirements}"
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = settings.state_dir() / "models" / ".environments" / name
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "conda.yml", text)
    environments.prepare_process()
    interpreter = environments.python_of(folder)
    if not environments.is_built(interpreter):
        _build(folder, env_manager)
    return interpreter


def _build(folder: Path, env_manager: str) -> None:
    """Build the environment; the output goes to a log."""
    print("building the model's environment, once", file=sys.stderr, flush=True)
    log = folder / "build.log"
    command = [sys.executable, "-c", BUILD, str(folder), env_manager]
    with log.open("wb") as file:
        process = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, check=False)
    if process.returncode:
        tail = "\n".join(last_lines(log))
        raise PipelineError(
            f"the model's environment could not be built; the end of its log:\n{tail}",
            f"--env-manager=local uses this environment\nfull log: {log}",
        )
