"""Removes runs from MLflow's local store for good: their rows, files, models and versions."""

import contextlib
import io
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from mlflow import MlflowClient
from mlflow.cli import gc
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline.core import settings
from pipeline.core.addresses import local_folder
from pipeline.core.text import say
from pipeline.tracking.mlflow import store as mlflow_store


def unneeded(parents: Iterable[str], needed: Iterable[str]) -> list[str]:
    """The ids of runs and of those below them, other than those that are needed.

    A run whose model has an alias is needed. On a server nothing is: others may go by it.
    """
    if settings.sqlite_path(settings.tracking_uri()) is None:
        return []
    client = mlflow_store.client()
    kept = {
        *needed,
        *(
            version.run_id
            for version, has_alias in mlflow_store.model_versions(client)
            if has_alias
        ),
    }
    found, sweeps = [], {}
    for parent in parents:
        with contextlib.suppress(MlflowException):  # its owner has deleted it
            run = client.get_run(parent)
            below = mlflow_store.children(client, run.info.experiment_id, parent)
            found += [one.info.run_id for one in (run, *below)]
            if sweep := run.data.tags.get(MLFLOW_PARENT_RUN_ID):
                sweeps[sweep] = run.info.experiment_id
    for sweep, experiment in sweeps.items():  # it goes with the last of its trials
        trials = {run.info.run_id for run in mlflow_store.children(client, experiment, sweep)}
        found += [sweep] * (trials <= set(found))
    return [id for id in dict.fromkeys(found) if id not in kept and _is_ours(client, id)]


def _is_ours(client: MlflowClient, id: str) -> bool:
    """Whether the files of a run, which MLflow removes with it, are in the state folder, or gone.

    Where they are is written in its database, which may name any folder.
    """
    state = settings.state_dir().resolve()
    for address in mlflow_store.addresses(client, id):
        folder = local_folder(address)
        if folder and folder.exists() and state not in folder.resolve().parents:
            say(f"warning: MLflow run {id} stays: its files are in {folder}", file=sys.stderr)
            return False
    return True


def remove(runs: Iterable[str]) -> None:
    """Remove runs with all that belongs to them."""
    client, chosen = mlflow_store.client(), set(runs)
    for version, _ in mlflow_store.model_versions(client):
        if version.run_id in chosen:
            client.delete_model_version(version.name, version.version)
    models = [model for model in _models(client) if model.source_run_id in chosen]
    for model in models:
        client.delete_logged_model(model.model_id)
    for id in chosen:
        client.delete_run(id)
    uri = settings.tracking_uri()
    words = ["--backend-store-uri", uri, "--tracking-uri", uri, "--run-ids", ",".join(chosen)]
    if models:
        words += ["--logged-model-ids", ",".join(model.model_id for model in models)]
    with contextlib.redirect_stdout(io.StringIO()):  # it has a line for each
        gc.main(words, standalone_mode=False)
    if file := settings.sqlite_path(uri):
        with contextlib.closing(sqlite3.connect(file)) as store:
            store.execute("VACUUM")


def _models(client: MlflowClient) -> Iterator[Any]:
    """Every model that a run has logged."""
    for experiment in mlflow_store.every(client.search_experiments):
        yield from mlflow_store.every(
            client.search_logged_models, experiment_ids=[experiment.experiment_id]
        )
