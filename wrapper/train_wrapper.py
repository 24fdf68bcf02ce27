"""A decorator for a function that makes a model."""

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_GIT_BRANCH, MLFLOW_GIT_COMMIT

from pipeline.core import azure
from pipeline.core.errors import PipelineError
from pipeline.core.text import say
from pipeline.provenance import origin
from pipeline.tracking.mlflow import store as mlflow_store
from wrapper.branch import Branch

Result = TypeVar("Result")
FLAVOURS = {"torch": "pytorch", "pyspark": "spark", "mlflow": "pyfunc"}  # by the class's package


def train_wrapper(function: Callable[..., Result]) -> Callable[..., Result]:
    """Run the function inside an MLflow run, log its metrics and model, and commit.

    The function returns ``{"metrics": {...}, "model": model}``. The arguments of a call go to it;
    those of the decorator are:

    Args:
        wrapper_branch: the branch to commit to; made if there is none.
        wrapper_gitwd: a folder of the git repository.

    Raises:
        PipelineError: files, index and branch are as they were.
    """

    @functools.wraps(function)
    def call(
        *args: Any, wrapper_branch: str, wrapper_gitwd: str | os.PathLike[str], **kwargs: Any
    ) -> Result:
        name = function.__name__
        branch = Branch(Path(wrapper_gitwd), wrapper_branch)
        tree = branch.tree()
        if mlflow.active_run():
            raise PipelineError(
                f"{name}() was called within an MLflow run", "end that first: mlflow.end_run()"
            )
        with mlflow_store.active_run(name) as run:
            id, address = run.info.run_id, run.info.artifact_uri
            with azure.told(address):
                mlflow.artifacts.list_artifacts(run_id=id)  # a wrong key shows before the work
            result = function(*args, **kwargs)
            check(name, result)
            with azure.told(address):
                mlflow.set_tag("developer", origin.developer())
                mlflow.log_metrics({key: float(x) for key, x in result["metrics"].items()})
                log_model(result["model"])
            try:
                commit = branch.commit(tree, f"{name}: MLflow run {id}", {}, tag=id)
            except PipelineError as error:
                kept = f"its metrics and model are in MLflow run {id}"
                raise PipelineError(error.what, f"{error.remedy}\n{kept}") from error
            mlflow.set_tags({MLFLOW_GIT_COMMIT: commit, MLFLOW_GIT_BRANCH: wrapper_branch})
        say(f"{name}: MLflow run {id} is commit {commit[:10]} on {wrapper_branch}")
        return result

    return call


def check(function: str, result: Any) -> None:
    """Make sure that a function's result can be logged.

    Raises:
        PipelineError: it lacks the metrics or the model, or a metric is no number.
    """
    remedy = 'return {"metrics": {"accuracy": 0.9}, "model": model}'
    if not isinstance(result, Mapping):
        raise PipelineError(f"{function}() returned {type(result).__name__}", remedy)
    for key in ("metrics", "model"):
        if result.get(key) is None:
            raise PipelineError(f"{function}() returned no {key!r}", remedy)
    if not isinstance(result["metrics"], Mapping):
        kind = type(result["metrics"]).__name__
        raise PipelineError(f"{function}() returned its metrics as {kind}", remedy)
    for key, value in result["metrics"].items():
        if not (isinstance(key, str) and isinstance(value, Real)):
            raise PipelineError(f"{function}() returned metric {key!r} as {value!r}", remedy)
    flavour(result["model"])


def flavour(model: Any) -> ModuleType:
    """MLflow's module for models of an object's class, or of a class that it comes from.

    Raises:
        PipelineError: there is none.
    """
    for kind in type(model).__mro__:
        package = kind.__module__.partition(".")[0]
        try:
            found = importlib.import_module(f"mlflow.{FLAVOURS.get(package, package)}")
        except ImportError:
            continue
        if callable(getattr(found, "log_model", None)):
            return found
    kind = type(model)
    raise PipelineError(
        f"MLflow knows no flavour for a model of class {kind.__module__}.{kind.__qualname__}",
        "return a model of scikit-learn, XGBoost, PyTorch, ..., or an mlflow.pyfunc.PythonModel",
    )


def log_model(model: Any) -> None:
    """Log a model in its flavour; one of scikit-learn without pickle, unless it has own classes."""
    found, options = flavour(model), {}
    if found.__name__ == "mlflow.sklearn":
        options = sklearn_options(model)
    if found.__name__ == "mlflow.pyfunc":
        found.log_model(name="model", python_model=model)
    else:
        found.log_model(model, name="model", **options)


def sklearn_options(model: Any) -> dict[str, Any]:
    """How MLflow is to write a model of scikit-learn.

    One that needs no other package says so; for the rest MLflow finds out, which takes seconds.
    """
    from skops import io

    from pipeline.science.model_files import TRUSTED_PACKAGES

    with contextlib.suppress(io.exceptions.UnsupportedTypeException, TypeError, AttributeError):
        types = io.get_untrusted_types(data=io.dumps(model))
        if all(name.startswith(TRUSTED_PACKAGES) for name in types):
            needs = mlflow_store.requirements("scikit-learn", "skops", "pandas")
            return {"skops_trusted_types": types, "pip_requirements": needs}
    return {"serialization_format": "cloudpickle"}
