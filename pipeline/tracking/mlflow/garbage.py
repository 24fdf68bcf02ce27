"""Removes runs permanently from MLflow's local store, with their files, models and versions."""

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
from pipeline.core.data.addresses import local_folder
from pipeline.core.text import say
from pipeline.tracking.mlflow import store as mlflow_store


def removable(parents: Iterable[str], needed: Iterable[str]) -> list[str]:
    """The ids of the parent runs and their descendants that can be removed.

    A run is kept if it is needed or if its model has an alias. On a server all runs are kept,
    because other users may rely on them.

    Args:
        parents: ids of the runs to remove.
        needed: ids of the runs to keep.
    """
    if settings.sqlite_path(settings.tracking_uri()) is None:
        return []
    client = mlflow_store.client()
    needed_ids = {
        *needed,
        *(
            version.run_id
            for version, has_alias in mlflow_store.model_versions(client)
            if has_alias
        ),
    }
    run_ids, sweeps = [], {}
    for parent in parents:
        with contextlib.suppress(MlflowException):  # its owner has deleted it
            run = client.get_run(parent)
            descendants = mlflow_store.children(client, run.info.experiment_id, parent)
            run_ids += [entry.info.run_id for entry in (run, *descendants)]
            if sweep := run.data.tags.get(MLFLOW_PARENT_RUN_ID):
                sweeps[sweep] = run.info.experiment_id
    for sweep, experiment in sweeps.items():  # remove a sweep with the last of its trials
        trials = {run.info.run_id for run in mlflow_store.children(client, experiment, sweep)}
        run_ids += [sweep] * (trials <= set(run_ids))
    return [id for id in dict.fromkeys(run_ids) if id not in needed_ids and _is_ours(client, id)]


def _is_ours(client: MlflowClient, id: str) -> bool:
    """Whether a run's files are in the state folder or missing, so that MLflow may remove them.

    The database could name any folder.
    """
    state = settings.state_dir().resolve()
    for address in mlflow_store.addresses(client, id):
        folder = local_folder(address)
        if folder and folder.exists() and state not in folder.resolve().parents:
            say(f"warning: MLflow run {id} stays: its files are in {folder}", file=sys.stderr)
            return False
    return True


def remove(runs: Iterable[str]) -> None:
    """Remove runs with their files, models and model versions."""
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
    arguments = ["--backend-store-uri", uri, "--tracking-uri", uri, "--run-ids", ",".join(chosen)]
    if models:
        arguments += ["--logged-model-ids", ",".join(model.model_id for model in models)]
    with contextlib.redirect_stdout(io.StringIO()):  # gc prints a line per run
        gc.main(arguments, standalone_mode=False)
    if file := settings.sqlite_path(uri):
        with contextlib.closing(sqlite3.connect(file)) as store:
            store.execute("VACUUM")


def _models(client: MlflowClient) -> Iterator[Any]:
    """All logged models of all experiments."""
    for experiment in mlflow_store.all_pages(client.search_experiments):
        yield from mlflow_store.all_pages(
            client.search_logged_models, experiment_ids=[experiment.experiment_id]
        )
