"""MLflow's records of the data sets of a run: name, digest, schema, source and context."""

import json
import warnings
from typing import Any
from urllib.parse import urlsplit

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.types.utils import _infer_schema
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from pandas import DataFrame

from pipeline.tracking.interface import Artifact

DIGEST = 12  # characters of a digest; MLflow takes 36 at most
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
