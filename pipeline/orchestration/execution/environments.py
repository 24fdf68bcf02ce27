"""Builds the steps' environments once, completely, and in one process at a time.

MLflow uses every environment folder that exists, even if its build was interrupted or is in
progress in another process. Here a marker file in the folder says that the build is complete, and a
lock is held during the build.
"""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, cast

from filelock import FileLock
from mlflow.environment_variables import MLFLOW_ENV_ROOT
from mlflow.utils.environment import _PythonEnv
from mlflow.utils.virtualenv import (
    _create_virtualenv,
    _get_mlflow_virtualenv_root,
    _get_virtualenv_name,
)

from pipeline.core import settings, variables
from pipeline.core.errors import PipelineError
from pipeline.core.security import hardening
from pipeline.orchestration.execution.processes import system_temporary_folder
from pipeline.orchestration.execution.workers import record_interpreter
from pipeline.provenance import origin

MARKER = ".complete"
PYTHON = ".".join(map(str, sys.version_info[:2]))
PYTHON_FOLDER = f"python{PYTHON}"


def prepare_process() -> None:
    """Set the environment variables that MLflow reads when it builds environments."""
    # compile bytecode, or the first import of each module is slow
    variables.set_defaults({"UV_COMPILE_BYTECODE": "1", "PIP_NO_INPUT": "1"})
    bin_folder, path = str(Path(sys.executable).parent), os.environ.get("PATH", "")
    if path.partition(os.pathsep)[0] != bin_folder:
        variables.set_variables({"PATH": f"{bin_folder}{os.pathsep}{path}"})
    if " " in MLFLOW_ENV_ROOT.get():  # MLflow activates environments through an unquoted path
        root = _folder_without_space()
        variables.set_variables({MLFLOW_ENV_ROOT.name: str(root)})
    # one folder per Python version, as names come from conda.yml alone
    root = Path(MLFLOW_ENV_ROOT.get())
    if root.name != PYTHON_FOLDER:
        variables.set_variables({MLFLOW_ENV_ROOT.name: str(root / PYTHON_FOLDER)})


def _folder_without_space() -> Path:
    """A folder for environments if the home's path has a space; the same for all runs.

    Its name is random, as other users can create folders beside it. A link in the user's cache
    folder names it, and is replaced if the folder is gone or belongs to another user.
    """
    folder = system_temporary_folder()
    if " " in str(folder):
        raise PipelineError(
            f"the home's path and that of temporary files, {folder}, have a space, which MLflow's "
            "environments can't have",
            f"set {MLFLOW_ENV_ROOT.name} to a folder of yours without a space in its path",
        )
    link = settings.cache_dir() / "environments"
    link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(f"{link}.lock"):
        if not link.is_symlink() or not _is_ours(link.readlink()):
            link.unlink(missing_ok=True)
            link.symlink_to(tempfile.mkdtemp(prefix="mlflow-envs-", dir=folder))
        return link.readlink()


def _is_ours(folder: Path) -> bool:
    """Whether a folder belongs to this user and no other user can write to it."""
    return hardening.is_own_folder(folder) and not folder.lstat().st_mode & 0o022


def ensure(step: Path, env_manager: str) -> None:
    """Build a step's environment from its ``conda.yml``, unless it exists.

    Only for ``uv`` and ``virtualenv``: conda builds its own, and ``local`` needs none.
    """
    if env_manager not in ("uv", "virtualenv"):
        return
    record_interpreter(step, build(step, env_manager))


def python_of(folder: Path) -> Path:
    """The Python of the environment that a folder's ``conda.yml`` describes, built or not."""
    name = _get_virtualenv_name(_PythonEnv.from_conda_yaml(folder / "conda.yml"), folder)
    return Path(_get_mlflow_virtualenv_root()) / name / "bin" / "python"


def is_built(python: Path) -> bool:
    """Whether an environment exists and is complete."""
    return (python.parents[1] / MARKER).exists()


def build_ahead(steps: Iterable[Path], env_manager: str) -> list[Path]:
    """Start to build missing environments of steps, in parallel.

    :func:`ensure` waits for the build of an environment, and raises its error.

    Returns:
        The steps whose environments are being built.
    """
    missing = [step for step in steps if not is_built(python_of(step))]
    if env_manager not in ("uv", "virtualenv") or not missing:
        return []
    logging.getLogger("mlflow.utils.virtualenv").setLevel("WARNING")  # or it prints to the terminal
    pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1))
    for step in missing:
        pool.submit(build, step, env_manager, quiet=True)
    pool.shutdown(wait=False)
    return missing


def build(step: Path, env_manager: str, *, quiet: bool = False) -> Path:
    """Build the environment of a folder's ``conda.yml``, unless it exists; returns its Python.

    uv uses the Python version of this process, also if conda.yml names another supported version.

    Args:
        step: the folder.
        env_manager: ``uv`` or ``virtualenv``.
        quiet: print nothing; an error contains the output of the failed program.
    """
    spec, python = _PythonEnv.from_conda_yaml(step / "conda.yml"), python_of(step)
    if env_manager == "uv":  # by path, as uv ignores virtual environments
        spec.python = str(Path(sys.executable).resolve())
    folder = python.parents[1]
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not is_built(python):
        with FileLock(f"{folder}.lock"):
            if not is_built(python):
                shutil.rmtree(folder, ignore_errors=True)
                manager = cast(Literal["uv", "virtualenv"], env_manager)
                _create_virtualenv(step, spec, folder, env_manager=manager, capture_output=quiet)
                (folder / MARKER).touch()
    return python


def installed(step: Path) -> list[str] | None:
    """The packages of a step's environment, or None if it has not been built."""
    python = python_of(step)
    if not is_built(python):
        return None
    return origin.packages(python.parents[1].glob("lib/python*/site-packages"))
