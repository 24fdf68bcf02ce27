"""The data sets of a run, as MLflow shows them: name, digest, schema, source and context."""

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
LONGEST_SCHEMA = 60_000  # characters; a MySQL store keeps no more


def of_artifact(artifact: Artifact, context: str, table: DataFrame, store: str) -> DatasetInput:
    """An artifact that a step used.

    Args:
        artifact: its exact version.
        context: what it was used for, such as ``train``.
        table: its rows.
        store: where the tracker keeps it.
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
    """A file that was fetched from outside the tracker; the address holds no secret.

    Its source is of a kind that ``mlflow.data.get_source`` can load, where MLflow has one.
    """
    scheme = urlsplit(address).scheme
    if scheme in ("http", "https"):
        return _input(name, digest, context, "http", {"url": address})
    kind = "local" if scheme in ("", "file") else scheme
    return _input(name, digest, context, kind, {"uri": address})


def _input(
    name: str, digest: str, context: str, kind: str, source: dict[str, Any], **more: Any
) -> DatasetInput:
    dataset = Dataset(name, digest[:DIGEST], kind, json.dumps(source), **more)
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def _schema(table: DataFrame) -> str | None:
    """MLflow's schema of a table; None where it has no name for a type, or no room."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whole numbers, which may have gaps elsewhere
            columns = _infer_schema(telling_rows(table)).to_dict()  # as MLflow's own data sets
    except MlflowException:
        return None
    text = json.dumps({"mlflow_colspec": columns})
    return text if len(text) <= LONGEST_SCHEMA else None


def telling_rows(table: DataFrame) -> DataFrame:
    """The first value and the first gap of each column: enough to tell the types of all rows."""
    gaps = table.isna().to_numpy()
    return table.iloc[sorted({*gaps.argmax(axis=0), *(~gaps).argmax(axis=0)})]
