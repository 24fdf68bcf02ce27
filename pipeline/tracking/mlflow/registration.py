"""Registers a trained model as a version in MLflow's registry, with where it came from.

The other side, which reads the registry, is :mod:`pipeline.models.registry`.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models.model import ModelInfo
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from pipeline.core import azure, model_folder
from pipeline.tracking.interface import Artifact

CANDIDATE = "candidate"
TRIES = 10
AT_ONCE = re.compile(r"giving up after|unique constraint|duplicate (key|entry)", re.IGNORECASE)

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
    """Make a logged model the newest version of ``name``; the version.

    Args:
        name: the registered model, made if it is new.
        logged: what MLflow says of the model.
        folder: a temporary folder, for the files as MLflow has stored them.
        used: the data it was fitted and measured on, by role.
        artifact: the same model in the tracker.
        metrics: what it scored.
        origin: tags that say which run, commit and tracker it came from.
        title: what the model is, for the pages of MLflow.
        candidate: whether it is the one to be promoted next.
    """
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(name, description=_about(title, origin))
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    with azure.readable_errors(logged.artifact_path):
        stored = Path(mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(folder)))
    tags = {
        **origin,
        "model.digest": model_folder.digest(stored),
        "tracker.artifact": f"{artifact.reference} {artifact.digest}",
        **{f"data.{role}": f"{one.reference} {one.digest}" for role, one in used.items()},
        **{f"metric.{metric}": repr(value) for metric, value in metrics.items()},
    }
    kept = {key: text for key, text in tags.items() if text}
    about = ", ".join(f"{role} data {one.reference}" for role, one in used.items())
    made = _again(
        lambda: client.create_model_version(
            name,
            logged.model_uri,
            run_id=logged.run_id,
            tags=kept,
            description=f"{title}; {about}",
            model_id=logged.model_id,
        )
    )
    version = made.version
    if candidate:
        _again(lambda: client.set_registered_model_alias(name, CANDIDATE, version))
    return version


def _about(title: str, origin: Mapping[str, str]) -> str:
    """What a registered model is for, whichever version."""
    predicting = title.partition(" ")[2]
    project = origin.get("tracker.store", "").rpartition(" ")[2]
    return f"A model {predicting}, made by the pipeline of the project {project}."


def nominate(run: str, tags: Mapping[str, str]) -> list[str]:
    """Make what a training step's run has registered the candidate; its artifacts in the tracker.

    Args:
        run: the step's MLflow run.
        tags: what else is known of these versions by now.
    """
    client, artifacts = mlflow.MlflowClient(), []
    for version in client.search_model_versions(f"run_id = '{run}'"):
        for key, text in tags.items():
            client.set_model_version_tag(version.name, version.version, key, text)
        client.set_registered_model_alias(version.name, CANDIDATE, version.version)
        artifacts.append(version.tags.get("tracker.artifact", "").partition(" ")[0])
    return [*filter(None, artifacts)]


def _again(call: Callable[[], Result]) -> Result:
    """Ask the store, and ask again where somebody else has made the same row at this moment.

    MLflow looks whether a row is there and then makes it, so of two that ask at once one is
    refused by the database, whose row it finds the next time.
    """
    for _ in range(TRIES - 1):
        try:
            return call()
        except MlflowException as error:
            if not AT_ONCE.search(str(error)):
                raise
    return call()
