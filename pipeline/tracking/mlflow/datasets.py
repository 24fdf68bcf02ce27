"""MLflow's records of the data sets of a run: name, digest, schema, source and context."""

import json
import re
import warnings
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput
from mlflow.exceptions import MlflowException
from mlflow.types.utils import _infer_schema
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from pandas import DataFrame

from pipeline.tracking.interface import Artifact

DIGEST = 12  # characters of a digest; MLflow takes 36 at most
# SQLite's, PostgreSQL's and MySQL's errors for a row that another process has just inserted
INSERTED = re.compile("UNIQUE constraint|Duplicate entry", re.IGNORECASE)
ATTEMPTS = 5
LONGEST_SCHEMA = 60_000  # characters; the limit of a MySQL store


def of_artifact(artifact: Artifact, context: str, table: DataFrame, store: str) -> DatasetInput:
    """The record of an artifact that a step used.

    Args:
        artifact: its exact version.
        context: its role, such as ``train``.
        table: its rows.
        store: the tracker's :attr:`~pipeline.tracking.Tracker.store`.
    """
    kind, _, place = store.partition(" ")
    profile = {"num_rows": len(table), "num_elements": table.size}
    return _input(
        artifact.name,
        artifact.digest,
        context,
        kind,
        {"artifact": artifact.reference, "store": place, "digest": artifact.digest},
        schema=_schema(table),
        profile=json.dumps(profile),
    )


def of_address(name: str, digest: str, address: str, context: str) -> DatasetInput:
    """The record of a file that was fetched from outside the tracker.

    ``mlflow.data.get_source`` can load it if MLflow knows the address's scheme.

    Args:
        name: the data set's name.
        digest: the file's digest.
        address: the URL or path, without secrets.
        context: its role, such as ``raw``.
    """
    scheme = urlsplit(address).scheme
    if scheme in ("http", "https"):
        return _input(name, digest, context, "http", {"url": address})
    kind = "local" if scheme in ("", "file") else scheme
    return _input(name, digest, context, kind, {"uri": address})


def log_inputs(
    client: MlflowClient,
    run: str,
    inputs: Sequence[DatasetInput],
    models: Sequence[LoggedModelInput] = (),
) -> None:
    """Log the inputs of a run.

    MLflow inserts a data set that its experiment does not have yet. If runs do this at the same
    time, all but one fail; at the next attempt they find the data set.

    Args:
        client: the client of MLflow's store.
        run: the run's id.
        inputs: the data sets.
        models: the models.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return client.log_inputs(run, [*inputs], [*models])
        except MlflowException as error:
            if attempt == ATTEMPTS or not INSERTED.search(str(error)):
                raise


def _input(
    name: str, digest: str, context: str, kind: str, source: dict[str, Any], **details: Any
) -> DatasetInput:
    dataset = Dataset(name, digest[:DIGEST], kind, json.dumps(source), **details)
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def _schema(table: DataFrame) -> str | None:
    """MLflow's schema of a table as JSON; None if a type is unknown to MLflow or it is too long."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that integer columns can't hold missing values
            columns = _infer_schema(representative_rows(table)).to_dict()  # as mlflow.data does
    except MlflowException:
        return None
    text = json.dumps({"mlflow_colspec": columns})
    return text if len(text) <= LONGEST_SCHEMA else None


def representative_rows(table: DataFrame) -> DataFrame:
    """Rows with each column's first value and first missing value: enough to infer its type."""
    gaps = table.isna().to_numpy()
    return table.iloc[sorted({*gaps.argmax(axis=0), *(~gaps).argmax(axis=0)})]
