"""Steps on other machines: Kubernetes, Databricks, or a backend that a plugin adds to MLflow.

Such a machine has nothing of this one: no checkout, no state folder, no variables. So each step is
sent as a bundle, an MLflow project with all it needs: the step's files, what they import of
``pipeline``, its arguments and the names of where it belongs. Its report comes back as a file
of its MLflow run. Both places have to reach the same MLflow server and the same tracker.
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
PLUGINS = "mlflow.project_backend"  # the entry points by which MLflow finds further ones
NEEDED = ("kube-job-template-path", "repository-uri", "image")  # in Kubernetes' backend_config
# What a step is told of where it belongs; secrets are the other machine's own.
HANDED_ON = (
    "WANDB_PROJECT",
    "WANDB_RUN_GROUP",
    "WANDB_BASE_URL",
    "WANDB_ENTITY",
    settings.TRACKER,
    settings.TRACKER_TIMEOUT,
)


@dataclass(frozen=True)
class Backend:
    """Where MLflow runs the steps: ``main.backend`` and ``main.backend_config``."""

    name: str = LOCAL
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        """Whether steps run elsewhere, as far as we can know."""
        return self.name not in (PREFORK, LOCAL)

    @property
    def environment(self) -> dict[str, str]:
        """What decides about the packages that a step meets there, beside its conda.yml."""
        return {"image": self.config["image"]} if self.name == KUBERNETES else {}

    def options(self) -> dict[str, Any]:
        """What ``mlflow.projects.run`` is given; a copy, for MLflow writes into it."""
        config = deepcopy(dict(self.config))
        return {
            "backend": self.name,
            "backend_config": config,
            "build_image": self.name == KUBERNETES,  # the bundle upon the image that was named
        }


def choose(config: "DictConfig", tracker: str) -> Backend:
    """The backend that the configuration names.

    Raises:
        PipelineError: there is no such one, or it lacks what it needs.
    """
    name, given = config.main.backend, config.main.backend_config
    known = [PREFORK, LOCAL, KUBERNETES, DATABRICKS]
    if name not in known:
        known += (plugin.name for plugin in metadata.entry_points(group=PLUGINS))
    if name not in known:
        raise PipelineError(
            f"unknown main.backend={name!r}{did_you_mean(name, known)}",
            f"use one of: {', '.join(known)}; or install the package that adds it to MLflow",
        )
    backend = Backend(name, _read(given))
    if backend.config and not backend.remote:
        raise PipelineError(
            f"main.backend_config is given, and main.backend={name} has no use for it",
            f"choose a backend: {', '.join(known[2:])}",
        )
    if backend.remote and config.main.timeout is not None:
        raise PipelineError(
            f"main.timeout has no effect with main.backend={name}",
            "leave it null, and set a limit of that place: docs/remote.md",
        )
    if name in (KUBERNETES, DATABRICKS):
        _check_servers(name, tracker)
        return _kubernetes(backend) if name == KUBERNETES else _databricks(backend)
    return backend


def _read(given: Any) -> dict[str, Any]:
    """``main.backend_config``: a mapping, or the path of a JSON file with one."""
    if given is None:
        return {}
    if isinstance(given, dict):
        found = given
    elif not isinstance(given, str):
        from omegaconf import OmegaConf

        found = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else given
    else:
        try:
            found = json.loads(Path(given).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"main.backend_config={given!r} can't be read: {error}",
                "give the path of a JSON file, or the settings themselves: {key: value}",
            ) from error
    if not isinstance(found, dict):
        raise PipelineError(
            f"main.backend_config={given!r} holds no settings", "give keys and values: {key: value}"
        )
    return found


def _check_servers(name: str, tracker: str) -> None:
    """Both places have to reach MLflow and the tracker, so neither may be a folder of this one."""
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
            "docs/remote.md says what each is",
        )
    if importlib.util.find_spec("kubernetes") is None:
        raise PipelineError(
            "main.backend=kubernetes needs the Python package kubernetes",
            "install it: make extras",
        )
    path = Path(backend.config["kube-job-template-path"])
    try:
        job = yaml.safe_load(path.read_text(encoding="utf-8"))
        job["metadata"]["namespace"], job["spec"]["template"]["spec"]["containers"][0].keys()
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
    """MLflow adds keys of its own to the settings, which must not get into the cluster's."""
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
    """A step as a project that needs no other file; the folder it is in.

    Args:
        backend: where it will run.
        step: the step's folder.
        arguments: the parameters of its script.
        folder: where to make it.
        context: where the step belongs; it gets what is known elsewhere too.
    """
    source = ROOT / step
    files = {path: folder / path.relative_to(source) for path in step_files(source)}
    files |= {path: folder / path.relative_to(ROOT) for path in library(source / "script.py")}
    for path, copy in files.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    handed = {
        "step": step,
        # MLflow quotes for a shell what Kubernetes hands on without one, so not as a command line
        "arguments": [f"--{key}={text}" for key, text in arguments.items()],
        "environment": _environment(),
        "context": asdict(_context(context)),
    }
    (folder / HANDED_OVER).write_text(json.dumps(handed), encoding="utf-8")
    _rewrite(folder / "MLproject", lambda project: _project(project, backend))
    _rewrite(folder / "conda.yml", _with_mlflow)
    return folder


def _environment() -> dict[str, str]:
    told = {name: os.environ[name] for name in HANDED_ON if os.environ.get(name)}
    if server := os.environ.get("TRACKIO_SERVER_URL"):
        told["TRACKIO_SERVER_URL"] = server.partition("?")[0]  # what follows is the token
    return told


def _context(context: StepContext) -> StepContext:
    """A step's context for another machine, which has no file of this one."""
    return replace(context, report=BY_MLFLOW, copies="", developer=origin.developer())


def _rewrite(path: Path, change: Any) -> None:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")


def _project(project: dict[str, Any], backend: Backend) -> None:
    """The name as Kubernetes allows one, the arguments from the bundle, and the image."""
    project["name"] = re.sub(r"[^a-z0-9]+", "-", project["name"].lower()).strip("-")
    project["entry_points"]["main"]["command"] = "python script.py"
    if backend.name == KUBERNETES:
        del project["conda_env"]
        project["docker_env"] = {"image": backend.config["image"]}


def _with_mlflow(conda: dict[str, Any]) -> None:
    """The report is written with MLflow, which not every step has in its environment."""
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
    """Have MLflow send a step to where it runs, and wait for its end.

    Args:
        backend: where that is.
        step: the step's folder.
        arguments: the parameters of its script.
        folder: for its bundle.
        context: where the step belongs.
        options: further ones of ``mlflow.projects.run``.

    Raises:
        MlflowException: it failed, or it could not be sent.
    """
    import mlflow.projects
    from mlflow.exceptions import ExecutionException, MlflowException

    project = bundle(backend, step, arguments, folder, context)
    try:
        return mlflow.projects.run(str(project), **options, **backend.options())
    except MlflowException:
        raise
    except Exception as error:  # a client's own: of Kubernetes, of Docker, of a plugin
        raise ExecutionException(f"{type(error).__name__}: {error}") from error


def shortened(text: str) -> str:
    """A message of a few lines; a server's answer may have many."""
    lines = [line[:200] for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:4])


def report(client: "MlflowClient", run_id: str) -> dict[str, Any] | None:
    """The report of a step that ran elsewhere, a file of its MLflow run; None if there is none."""
    if REPORT not in {file.path for file in client.list_artifacts(run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(client.download_artifacts(run_id, REPORT, folder))
        return json.loads(path.read_text(encoding="utf-8"))
