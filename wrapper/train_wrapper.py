"""A decorator for a function that trains a model."""

import functools
import os
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar, cast

import mlflow
from mlflow.artifacts import list_artifacts
from mlflow.utils.mlflow_tags import MLFLOW_GIT_BRANCH, MLFLOW_GIT_COMMIT

from pipeline.core import azure
from pipeline.core.errors import PipelineError
from pipeline.core.text import say
from pipeline.provenance import origin
from pipeline.tracking.mlflow import store as mlflow_store
from wrapper import models
from wrapper.branch import Branch

Result = TypeVar("Result")


def train_wrapper(function: Callable[..., Result]) -> Callable[..., Result]:
    """Call the function in an MLflow run, log its metrics and model, and commit.

    The function returns ``{"metrics": {...}, "model": model}``. Other arguments of a call are
    passed to it. The decorator's own arguments are:

    Args:
        wrapper_branch: the branch to commit to; created if it does not exist.
        wrapper_gitwd: a folder of the git repository.

    Raises:
        PipelineError: the call failed; files, index and branch are unchanged.
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
            with azure.readable_errors(address):
                list_artifacts(run_id=id)  # checks the key early
            result = function(*args, **kwargs)
            check(name, result)
            logged = cast(Mapping[str, Any], result)
            with azure.readable_errors(address):
                mlflow.set_tag("developer", origin.developer())
                log_metrics(id, logged["metrics"])
                models.log(logged["model"], branch.top)
            try:
                commit = branch.commit(tree, f"{name}: MLflow run {id}", {}, tag=id)
            except PipelineError as error:
                note = f"its metrics and model are in MLflow run {id}"
                raise PipelineError(error.what, f"{error.remedy}\n{note}") from error
            mlflow.set_tags({MLFLOW_GIT_COMMIT: commit, MLFLOW_GIT_BRANCH: wrapper_branch})
        say(f"{name}: MLflow run {id} is commit {commit[:10]} on {wrapper_branch}")
        return result

    return call


def check(function: str, result: Any) -> None:
    """Check that a function's result can be logged.

    Raises:
        PipelineError: the metrics or the model are missing, or a metric is no number.
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


def log_metrics(run: str, metrics: Mapping[str, Real]) -> None:
    """Log metrics to the active run, at a later step than autologged values of the same names.

    MLflow shows the value of the last step.
    """
    client = mlflow.MlflowClient()
    logged = client.get_run(run).data.metrics
    for key, value in metrics.items():
        earlier = client.get_metric_history(run, key) if key in logged else []
        step = max((metric.step + 1 for metric in earlier), default=0)
        mlflow.log_metric(key, float(value), step)
