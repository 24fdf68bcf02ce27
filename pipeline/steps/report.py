"""A step's report to the orchestrator: artifacts with their versions, metrics, warnings."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import settings
from pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    import pandas as pd


LONGEST_TAG = 4000  # characters of the report in one tag


def write_report(report: Mapping[str, Any]) -> None:
    """Hand the report to the orchestrator, whole or not at all."""
    target = os.environ.get(settings.REPORT)
    if target == settings.BY_MLFLOW:
        _tag_run(json.dumps(report))
    elif target:
        partial = Path(f"{target}.partial")
        partial.write_text(json.dumps(report), encoding="utf-8")
        partial.replace(target)


def keep_table(name: str, table: "pd.DataFrame") -> None:
    """Leave a table as CSV where the orchestrator finds it, so that two runs' can be compared."""
    target = os.environ.get(settings.REPORT)
    if target == settings.BY_MLFLOW:
        import mlflow

        client = mlflow.MlflowClient()
        client.log_text(os.environ["MLFLOW_RUN_ID"], table.to_csv(index=False), f"tables/{name}")
    elif target:
        table.to_csv(Path(target).with_name(name), index=False)


def _tag_run(text: str) -> None:
    """Put the report on this step's MLflow run, in tags as long as any server takes them."""
    import mlflow

    run, size = os.environ.get("MLFLOW_RUN_ID"), LONGEST_TAG
    parts = (text[start : start + size] for start in range(0, len(text), size))
    tags = {f"{settings.REPORT_TAG}{number:03}": part for number, part in enumerate(parts)}
    if not run:
        raise PipelineError(
            "MLFLOW_RUN_ID is not set, so nobody would learn what this step has made",
            "the backend has to set it, and MLFLOW_TRACKING_URI: docs/remote.md",
        )
    try:
        entities = [mlflow.entities.RunTag(key, value) for key, value in tags.items()]
        mlflow.MlflowClient().log_batch(run, tags=entities)
    except mlflow.exceptions.MlflowException as error:
        raise PipelineError(f"MLflow does not take the report: {error}") from error
