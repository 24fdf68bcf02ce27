"""Runs steps on other machines: Kubernetes, Databricks, or an MLflow backend plugin.

Such a machine has no checkout, no state folder and no environment variables of this one. So each
step is sent as a bundle: an MLflow project with the step's files, the modules of ``pipeline`` that
they import, its arguments and its context. The report comes back as a file of the step's MLflow
run. Both machines need access to the same MLflow server and the same tracker.
"""

import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.core import settings
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.settings import ROOT
from pipeline.provenance import origin
from pipeline.steps.context import BY_MLFLOW, HANDED_OVER, REPORT, StepContext
from pipeline.steps.folders import library, step_files

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.projects import SubmittedRun
    from omegaconf import DictConfig

PREFORK, LOCAL, KUBERNETES, DATABRICKS = "prefork", "local", "kubernetes", "databricks"
PLUGINS = "mlflow.project_backend"  # the entry points of MLflow's backend plugins
NEEDED = ("kube-job-template-path", "repository-uri", "image")  # in Kubernetes' backend_config
# Environment variables that a remote step gets; secrets are set on its own machine.
HANDED_ON = (
    settings.PROJECT,
    settings.GROUP,
    "WANDB_BASE_URL",
    "WANDB_ENTITY",
    settings.TRACKER,
    settings.TRACKER_TIMEOUT,
)


@dataclass(frozen=True)
class Backend:
    """The MLflow backend of the steps: ``main.backend`` and ``main.backend_config``."""

    name: str = LOCAL
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        """Whether steps may run on another machine."""
        return self.name not in (PREFORK, LOCAL)

    @property
    def environment(self) -> dict[str, str]:
        """Settings that decide the packages of a remote step, beside its conda.yml."""
        return {"image": self.config["image"]} if self.name == KUBERNETES else {}

    def options(self) -> dict[str, Any]:
        """Arguments of ``mlflow.projects.run``; copies, because MLflow changes them."""
        config = deepcopy(dict(self.config))
        return {
            "backend": self.name,
            "backend_config": config,
            "build_image": self.name == KUBERNETES,  # adds the bundle to the configured image
        }


def choose(config: "DictConfig", tracker: str) -> Backend:
    """The backend that the configuration names.

    Raises:
        PipelineError: the backend is unknown, or a setting that it needs is missing.
    """
    name, backend_config = config.main.backend, config.main.backend_config
    backends = [PREFORK, LOCAL, KUBERNETES, DATABRICKS]
    if name not in backends:
        backends += (plugin.name for plugin in metadata.entry_points(group=PLUGINS))
    if name not in backends:
        raise PipelineError(
            f"unknown main.backend={name!r}{did_you_mean(name, backends)}",
            f"use one of: {', '.join(backends)}; or install the package that adds it to MLflow",
        )
    backend = Backend(name, _read(backend_config))
    if backend.config and not backend.remote:
        raise PipelineError(
            f"main.backend_config is set, but main.backend={name} does not use it",
            f"choose a backend: {', '.join(backends[2:])}",
        )
    if backend.remote and config.main.timeout is not None:
        raise PipelineError(
            f"main.timeout has no effect with main.backend={name}",
            "leave it null, and set a limit of the backend: docs/remote.md",
        )
    if name in (KUBERNETES, DATABRICKS):
        _check_servers(name, tracker)
        return _kubernetes(backend) if name == KUBERNETES else _databricks(backend)
    return backend


def _read(config: Any) -> dict[str, Any]:
    """``main.backend_config``: a mapping, or the path of a JSON file with one."""
    if config is None:
        return {}
    if isinstance(config, dict):
        content = config
    elif not isinstance(config, str):
        from omegaconf import OmegaConf

        content = (
            OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
        )
    else:
        try:
            content = json.loads(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"main.backend_config={config!r} can't be read: {error}",
                "give the path of a JSON file, or the settings themselves: {key: value}",
            ) from error
    if not isinstance(content, dict):
        raise PipelineError(
            f"main.backend_config={config!r} holds no settings",
            "give keys and values: {key: value}",
        )
    return {str(key): value for key, value in content.items()}


def _check_servers(name: str, tracker: str) -> None:
    """Refuse local stores: both machines need access to MLflow and to the tracker."""
    if not settings.mlflow_on_server():
        raise PipelineError(
            f"main.backend={name} needs an MLflow server, and MLFLOW_TRACKING_URI names none",
            "set it to the address of one that the steps reach too: docs/remote.md",
        )
    if tracker == "trackio" and not os.environ.get("TRACKIO_SERVER_URL"):
        raise PipelineError(
            f"main.backend={name} needs a tracker on a server, and Trackio's is a folder here",
            "set TRACKIO_SERVER_URL, or use W&B: docs/remote.md",
        )


def _kubernetes(backend: Backend) -> Backend:
    missing = [key for key in NEEDED if not backend.config.get(key)]
    if missing:
        raise PipelineError(
            f"main.backend_config lacks {', '.join(missing)}",
            "docs/remote.md explains each key",
        )
    if importlib.util.find_spec("kubernetes") is None:
        raise PipelineError(
            "main.backend=kubernetes needs the Python package kubernetes",
            "install it: make extras",
        )
    path = Path(backend.config["kube-job-template-path"])
    try:
        job = yaml.safe_load(path.read_text(encoding="utf-8"))
        _ = job["metadata"]["namespace"], job["spec"]["template"]["spec"]["containers"][0].keys()
    except OSError as error:
        raise PipelineError(
            f"kube-job-template-path={str(path)!r} can't be read: {error.strerror}",
            "give the path of a Job's YAML file: docs/remote.md shows one",
        ) from error
    except (yaml.YAMLError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise PipelineError(
            f"{path} is no Job with metadata.namespace and spec.template.spec.containers",
            "docs/remote.md shows one",
        ) from error
    return backend


def _databricks(backend: Backend) -> Backend:
    """Put plain cluster settings below ``new_cluster``, as MLflow adds its own keys beside it."""
    if not backend.config:
        raise PipelineError(
            "main.backend=databricks needs main.backend_config, the cluster to run on",
            "give new_cluster: docs/remote.md shows one",
        )
    if "new_cluster" in backend.config or "existing_cluster_id" in backend.config:
        return backend
    return Backend(backend.name, {"new_cluster": dict(backend.config)})


def bundle(
    backend: Backend, step: str, arguments: Mapping[str, str], folder: Path, context: StepContext
) -> Path:
    """Write a step as a self-contained MLflow project, and return its folder.

    Args:
        backend: the backend that will run it.
        step: the step's folder.
        arguments: the arguments of its script.
        folder: the folder to write.
        context: the step's context, which is adapted to another machine.
    """
    source = ROOT / step
    files = {path: folder / path.relative_to(source) for path in step_files(source)}
    files |= {path: folder / path.relative_to(ROOT) for path in library(source / "script.py")}
    for path, copy in files.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    job = {
        "step": step,
        # not as a command line: MLflow quotes it for a shell, but Kubernetes uses none
        "arguments": [f"--{key}={text}" for key, text in arguments.items()],
        "environment": _environment(),
        "context": asdict(_context(context)),
    }
    (folder / HANDED_OVER).write_text(json.dumps(job), encoding="utf-8")
    _rewrite(folder / "MLproject", lambda project: _change_project(project, backend))
    _rewrite(folder / "conda.yml", _add_mlflow)
    return folder


def _environment() -> dict[str, str]:
    values = {name: os.environ[name] for name in HANDED_ON if os.environ.get(name)}
    if server := os.environ.get("TRACKIO_SERVER_URL"):
        values["TRACKIO_SERVER_URL"] = server.partition("?")[0]  # without the token
    return values


def _context(context: StepContext) -> StepContext:
    """A step's context for another machine, without local paths."""
    return replace(context, report=BY_MLFLOW, copies="", developer=origin.developer())


def _rewrite(path: Path, change: Any) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _change_project(project: dict[str, Any], backend: Backend) -> None:
    """Set a name that Kubernetes allows, a command without arguments, and the image."""
    project["name"] = re.sub(r"[^a-z0-9]+", "-", project["name"].lower()).strip("-")
    project["entry_points"]["main"]["command"] = "python script.py"
    if backend.name == KUBERNETES:
        del project["conda_env"]
        project["docker_env"] = {"image": backend.config["image"]}


def _add_mlflow(conda: dict[str, Any]) -> None:
    """Add MLflow, which writes the report, to the step's packages if it is missing."""
    packages = conda["dependencies"][-1]["pip"]
    if not any(package.startswith("mlflow") for package in packages):
        packages.append(f"mlflow-skinny=={metadata.version('mlflow')}")


def run(
    backend: Backend,
    step: str,
    arguments: Mapping[str, str],
    folder: Path,
    context: StepContext,
    **options: Any,
) -> "SubmittedRun":
    """Run a step on a remote backend, and wait for its end.

    Args:
        backend: the backend.
        step: the step's folder.
        arguments: the arguments of its script.
        folder: the folder for its bundle.
        context: the step's context.
        options: further arguments of ``mlflow.projects.run``.

    Raises:
        MlflowException: the step failed or could not be sent.
    """
    import mlflow.projects
    from mlflow.exceptions import ExecutionException, MlflowException

    project = bundle(backend, step, arguments, folder, context)
    try:
        return mlflow.projects.run(str(project), **options, **backend.options())
    except MlflowException:
        raise
    except Exception as error:  # errors of the clients of Kubernetes, Docker or a plugin
        raise ExecutionException(f"{type(error).__name__}: {error}") from error


def shortened(text: str) -> str:
    """The first lines of a message; a server's answer may be long."""
    lines = [line[:200] for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:4])


def report(client: "MlflowClient", run_id: str) -> dict[str, Any] | None:
    """The report of a remote step, from a file of its MLflow run; None if it is missing."""
    if REPORT not in {file.path for file in client.list_artifacts(run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(run_id, REPORT, folder))
        return json.loads(path.read_text(encoding="utf-8"))
