"""The MLflow project backend ``prefork``: runs a step in a forked child of its worker.

A worker has the step's imports already. Without a worker, MLflow's backend ``local`` starts a shell
and a new interpreter: on systems other than Linux, with conda, for a script that can't be imported
or starts threads, and for a command other than ``python script.py`` with arguments.
"""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.projects import SubmittedRun
from mlflow.projects.backend import loader
from mlflow.projects.backend.local import LocalBackend
from mlflow.projects.utils import (
    MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG,
    PROJECT_ENV_MANAGER,
    PROJECT_STORAGE_DIR,
    fetch_and_validate_project,
    get_entry_point_command,
    get_or_create_run,
    get_run_env_vars,
    load_project,
)
from mlflow.utils.databricks_utils import get_databricks_env_vars
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENV

from pipeline.orchestration.execution import processes
from pipeline.orchestration.execution.backends import PREFORK
from pipeline.orchestration.execution.workers import ForkedChild, Workers, interpreter

KILLED = 137  # a shell's exit status for a killed process
SHELL = set("|&;<>()$`*?[]~#!\\\n")  # characters with a meaning for a shell


class PreforkedRun(SubmittedRun):
    """A step that runs in a worker's child."""

    def __init__(self, run_id: str, child: ForkedChild, meanwhile: Callable[[], None]):
        self._run_id, self._worker_child, self._meanwhile = run_id, child, meanwhile
        self._status: int | None = None

    @property
    def run_id(self) -> str:
        """The step's run in MLflow."""
        return self._run_id

    def begin(self, job: dict[str, Any]) -> bool:
        """Send the job to the child; returns whether the child exists."""
        try:
            self._process = psutil.Process(self._worker_child.pid)
            self._worker_child.connection.sendall(f"{json.dumps(job)}\n".encode())
        except (OSError, psutil.NoSuchProcess):
            return False
        processes.adopt(self._process)
        return True

    def wait(self) -> bool:
        """Wait for the end; returns whether the step succeeded."""
        if self._status is None:
            self._meanwhile()
            try:
                self._status = int(self._worker_child.answers.readline() or KILLED)
            except OSError:
                self._status = KILLED
        return self._status == 0

    def get_status(self) -> str:
        """The status as an MLflow status, as of the last :meth:`wait`."""
        ended = RunStatus.FAILED if self._status else RunStatus.FINISHED
        return RunStatus.to_string(RunStatus.RUNNING if self._status is None else ended)

    def cancel(self) -> None:
        """End the child and all processes below it."""
        processes.end(self._process)


class PreforkBackend(LocalBackend):
    """Runs a project whose command is ``python script.py`` in a worker; see :func:`options`."""

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: dict[str, Any],
        version: str | None,
        backend_config: dict[str, Any],
        tracking_uri: str,
        experiment_id: str,
    ) -> SubmittedRun:
        """Start a project's entry point."""
        folder = Path(fetch_and_validate_project(project_uri, version, entry_point, params))
        project, env_manager = load_project(folder), backend_config[PROJECT_ENV_MANAGER]
        entry = project.get_entry_point(entry_point)
        command = entry.command if entry else ""
        is_plain = command.split()[:2] == ["python", "script.py"] and SHELL.isdisjoint(command)
        child = backend_config["workers"].connect(folder, env_manager) if is_plain else None
        id = get_or_create_run(
            None, project_uri, experiment_id, folder, version, entry_point, params
        ).info.run_id
        if child:
            storage = backend_config[PROJECT_STORAGE_DIR]
            (command,) = get_entry_point_command(project, entry_point, params, storage)
            variables = get_run_env_vars(id, experiment_id) | get_databricks_env_vars(tracking_uri)
            job = {
                "arguments": shlex.split(command)[1:],
                "environment": os.environ | _activation(folder, env_manager) | variables,
                "folder": str(folder),
                "log": backend_config["log"],
            }
            submitted = PreforkedRun(id, child, backend_config["meanwhile"])
            print(f"=== Running {command} in a worker ===", flush=True)  # to the log
            if submitted.begin(job):
                if env_manager != "local":
                    MlflowClient().set_tag(id, MLFLOW_PROJECT_ENV, env_manager)
                return submitted
        backend_config[MLFLOW_LOCAL_BACKEND_RUN_ID_CONFIG] = id
        return super().run(
            project_uri, entry_point, params, version, backend_config, tracking_uri, experiment_id
        )


def options(
    workers: Workers, log: Path, meanwhile: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Arguments of ``mlflow.projects.run`` for a step in a worker.

    Args:
        workers: the workers.
        log: the file for the step's output.
        meanwhile: called while the step runs.
    """
    own = {"workers": workers, "log": str(log), "meanwhile": meanwhile}
    return {"backend": PREFORK, "backend_config": own}


def _activation(folder: Path, env_manager: str) -> dict[str, str]:
    """The variables that activating a step's environment sets."""
    found = interpreter(folder, env_manager)
    if env_manager == "local" or found is None:
        return {}
    python = Path(found)
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"VIRTUAL_ENV": str(python.parents[1]), "PATH": path}


loader.MLFLOW_BACKENDS[PREFORK] = PreforkBackend  # an entry point would need an installed package
