"""Removes runs from MLflow's local store for good: their rows, files, models and versions."""

import contextlib
import io
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mlflow import MlflowClient
from mlflow.cli import gc
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline.core import settings
from pipeline.tracking import mlflow_store


def unneeded(parents: Iterable[str], needed: Iterable[str]) -> list[str]:
    """The ids of runs and of those below them, other than those that are needed.

    A run whose model has an alias is needed. On a server nothing is: others may go by it.
    """
    if settings.sqlite_path(settings.tracking_uri()) is None:
        return []
    client = mlflow_store.client()
    kept = {*needed, *(version.run_id for version, has_alias in _versions(client) if has_alias)}
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
    return [id for id in dict.fromkeys(found) if id not in kept]


def remove(runs: Iterable[str]) -> None:
    """Remove runs with all that belongs to them."""
    client, chosen = mlflow_store.client(), set(runs)
    for version, _ in _versions(client):
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


def _versions(client: MlflowClient) -> Iterator[tuple[Any, bool]]:
    """Every version of every registered model, and whether it has an alias."""
    aliased = {
        (model.name, str(version))
        for model in _all(client.search_registered_models)
        for version in model.aliases.values()
    }
    for version in _all(client.search_model_versions):
        yield version, (version.name, str(version.version)) in aliased


def _models(client: MlflowClient) -> Iterator[Any]:
    """Every model that a run has logged."""
    for experiment in _all(client.search_experiments):
        yield from _all(client.search_logged_models, experiment_ids=[experiment.experiment_id])


def _all(search: Callable[..., Any], **given: Any) -> Iterator[Any]:
    """Every page of a search."""
    token = None
    while True:
        page = search(page_token=token, **given)
        yield from page
        token = page.token
        if not token:
            return
