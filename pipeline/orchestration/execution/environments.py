"""Steps' environments, built once, whole, and by one process at a time.

MLflow takes a folder that exists for a finished environment, so one whose building was cut off
would be used for ever, and two pipelines that start together would meet in it. Here a marker
file tells a finished one, and a lock keeps others out while it is made.
"""

import logging
import os
import shutil
import stat
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock
from mlflow.environment_variables import MLFLOW_ENV_ROOT
from mlflow.utils.environment import _PythonEnv
from mlflow.utils.virtualenv import (
    _create_virtualenv,
    _get_mlflow_virtualenv_root,
    _get_virtualenv_name,
)

from pipeline.core import variables
from pipeline.core.errors import PipelineError
from pipeline.orchestration.execution.processes import system_temporary_folder
from pipeline.orchestration.execution.workers import record_interpreter
from pipeline.provenance import origin

MARKER = ".complete"
PYTHON = ".".join(map(str, sys.version_info[:2]))
PYTHON_FOLDER = f"python{PYTHON}"


def prepare_process() -> None:
    """Set what MLflow's environment building reads from this process's environment."""
    # compiled, or the first import of each module is slow
    variables.set_defaults({"UV_COMPILE_BYTECODE": "1", "PIP_NO_INPUT": "1"})
    here, path = str(Path(sys.executable).parent), os.environ.get("PATH", "")
    if path.partition(os.pathsep)[0] != here:
        variables.set_variables({"PATH": f"{here}{os.pathsep}{path}"})
    if " " in MLFLOW_ENV_ROOT.get():  # MLflow activates environments through an unquoted path
        root = system_temporary_folder() / f"mlflow-envs-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
        status = root.lstat()  # anybody can make a folder or a link of that name
        if (
            not stat.S_ISDIR(status.st_mode)
            or status.st_uid != os.getuid()
            or (status.st_mode & 0o022)
        ):
            raise PipelineError(
                f"{root} is no folder of yours alone, and the home folder's path has a space, "
                "which MLflow's environments can't have",
                f"set {MLFLOW_ENV_ROOT.name} to a folder of yours without a space in its path",
            )
        variables.set_variables({MLFLOW_ENV_ROOT.name: str(root)})
    root = Path(MLFLOW_ENV_ROOT.get())  # where one is named by conda.yml, whichever Python it has
    if root.name != PYTHON_FOLDER:
        variables.set_variables({MLFLOW_ENV_ROOT.name: str(root / PYTHON_FOLDER)})


def ensure(step: Path, env_manager: str) -> None:
    """Build a step's environment from its ``conda.yml``, unless it is there.

    For ``uv`` and ``virtualenv``; conda makes its own, and ``local`` needs none.
    """
    if env_manager not in ("uv", "virtualenv"):
        return
    record_interpreter(step, build(step, env_manager))


def python_of(folder: Path) -> Path:
    """The Python of the environment that a folder's ``conda.yml`` describes, built or not."""
    name = _get_virtualenv_name(_PythonEnv.from_conda_yaml(folder / "conda.yml"), folder)
    return Path(_get_mlflow_virtualenv_root()) / name / "bin" / "python"


def is_built(python: Path) -> bool:
    """Whether an environment is there, and whole."""
    return (python.parents[1] / MARKER).exists()


def build_ahead(steps: Iterable[Path], env_manager: str) -> list[Path]:
    """Begin to build the environments of steps that have none, side by side.

    Whoever needs one meanwhile waits for it in :func:`ensure`, which also tells what fails here.

    Returns:
        The steps whose environments are being built.
    """
    missing = [step for step in steps if not is_built(python_of(step))]
    if env_manager not in ("uv", "virtualenv") or not missing:
        return []
    logging.getLogger("mlflow.utils.virtualenv").setLevel("WARNING")  # or it writes on the screen
    pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1))
    for step in missing:
        pool.submit(build, step, env_manager, quiet=True)
    pool.shutdown(wait=False)
    return missing


def build(step: Path, env_manager: str, *, quiet: bool = False) -> Path:
    """Build the environment of a folder's ``conda.yml``, unless it is there; its Python.

    uv builds it on the Python that runs this, whichever of those that it may be conda.yml names.

    Args:
        step: the folder.
        env_manager: ``uv`` or ``virtualenv``.
        quiet: print nothing; what a program says is in the error if it fails.
    """
    spec, python = _PythonEnv.from_conda_yaml(step / "conda.yml"), python_of(step)
    if env_manager == "uv":  # by its path, for uv does not look into virtual environments
        spec.python = str(Path(sys.executable).resolve())
    folder = python.parents[1]
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not is_built(python):
        with FileLock(f"{folder}.lock"):
            if not is_built(python):
                shutil.rmtree(folder, ignore_errors=True)
                _create_virtualenv(
                    step, spec, folder, env_manager=env_manager, capture_output=quiet
                )
                (folder / MARKER).touch()
    return python


def installed(step: Path) -> list[str] | None:
    """The packages of a step's environment, or None if it has not been built."""
    python = python_of(step)
    if not is_built(python):
        return None
    return origin.packages(python.parents[1].glob("lib/python*/site-packages"))
