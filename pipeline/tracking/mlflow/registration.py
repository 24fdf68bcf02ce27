"""Registers a trained model as a version in MLflow's registry, with its lineage as tags.

:mod:`pipeline.models.registry` reads the registry.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import mlflow
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from pipeline.core import azure, model_folder
from pipeline.tracking.interface import Artifact

CANDIDATE = "candidate"
TRIES = 10
CONFLICT = re.compile(r"giving up after|unique constraint|duplicate (key|entry)", re.IGNORECASE)

Result = TypeVar("Result")


def register(
    name: str,
    logged: ModelInfo,
    folder: Path,
    used: Mapping[str, Artifact],
    artifact: Artifact,
    metrics: Mapping[str, float],
    origin: Mapping[str, str],
    title: str,
    candidate: bool = True,
) -> str:
    """Register a logged model as the newest version of ``name``; return the version.

    Args:
        name: the registered model, created if it is new.
        logged: MLflow's description of the logged model.
        folder: a temporary folder to download the stored files to.
        used: the data that it was fitted and evaluated on, by role.
        artifact: the same model in the tracker.
        metrics: its metrics.
        origin: tags with its run, commit and tracker.
        title: a short description for MLflow's pages.
        candidate: whether to give it the alias ``candidate``.
    """
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(name, description=_description(title, origin))
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    with azure.readable_errors(logged.artifact_path):
        stored = Path(download_artifacts(logged.model_uri, dst_path=str(folder)))
    tags = {
        **origin,
        "model.digest": model_folder.digest(stored),
        "tracker.artifact": f"{artifact.reference} {artifact.digest}",
        **{f"data.{role}": f"{data.reference} {data.digest}" for role, data in used.items()},
        **{f"metric.{metric}": repr(value) for metric, value in metrics.items()},
    }
    non_empty = {key: text for key, text in tags.items() if text}
    about = ", ".join(f"{role} data {data.reference}" for role, data in used.items())
    created = _retry(
        lambda: client.create_model_version(
            name,
            logged.model_uri,
            run_id=logged.run_id,
            tags=non_empty,
            description=f"{title}; {about}",
            model_id=logged.model_id,
        )
    )
    version = created.version
    if candidate:
        _retry(lambda: client.set_registered_model_alias(name, CANDIDATE, version))
    return version


def _description(title: str, origin: Mapping[str, str]) -> str:
    """The description of a registered model, for all its versions."""
    predicting = title.partition(" ")[2]
    project = origin.get("tracker.store", "").rpartition(" ")[2]
    return f"A model {predicting}, made by the pipeline of the project {project}."


def nominate(run: str, tags: Mapping[str, str]) -> list[str]:
    """Give the alias ``candidate`` to the model versions that a training run registered.

    Args:
        run: the step's MLflow run.
        tags: tags to add to these versions.

    Returns:
        The references of the models' artifacts in the tracker.
    """
    client, artifacts = mlflow.MlflowClient(), []
    for version in client.search_model_versions(f"run_id = '{run}'"):
        for key, text in tags.items():
            client.set_model_version_tag(version.name, version.version, key, text)
        client.set_registered_model_alias(version.name, CANDIDATE, version.version)
        artifacts.append(version.tags.get("tracker.artifact", "").partition(" ")[0])
    return [*filter(None, artifacts)]


def _retry(call: Callable[[], Result]) -> Result:
    """Call the store, and retry if another process inserts the same row at the same time.

    MLflow checks whether a row exists and then inserts it, so the database refuses one of two
    concurrent calls. That call finds the row when it is repeated.
    """
    for _ in range(TRIES - 1):
        try:
            return call()
        except MlflowException as error:
            if not CONFLICT.search(str(error)):
                raise
    return call()
