"""A step's report to the orchestrator: artifacts with their versions, metrics, warnings."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import azure
from pipeline.core.errors import PipelineError
from pipeline.core.files import write_whole
from pipeline.steps.context import BY_MLFLOW, REPORT, StepContext

if TYPE_CHECKING:
    import pandas as pd


def write_report(report: Mapping[str, Any], context: StepContext) -> None:
    """Write the report for the orchestrator, atomically."""
    if context.report == BY_MLFLOW:
        _log_report(report)
    elif context.report:
        write_whole(Path(context.report), json.dumps(report))


def keep_table(name: str, table: "pd.DataFrame", context: StepContext) -> None:
    """Store a table as CSV for the orchestrator, so that runs can be compared."""
    if context.report == BY_MLFLOW:
        import mlflow

        client = mlflow.MlflowClient()
        client.log_text(os.environ["MLFLOW_RUN_ID"], table.to_csv(index=False), f"tables/{name}")
    elif context.report:
        table.to_csv(Path(context.report).with_name(name), index=False)


def _log_report(report: Mapping[str, Any]) -> None:
    """Log the report as a file of this step's MLflow run."""
    import mlflow
    from mlflow.exceptions import MlflowException

    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        raise PipelineError(
            "MLFLOW_RUN_ID is not set, so this step can't report its outputs",
            "the backend has to set it, and MLFLOW_TRACKING_URI: docs/remote.md",
        )
    client = mlflow.MlflowClient()
    try:
        with azure.readable_errors(client.get_run(run_id).info.artifact_uri):
            client.log_dict(run_id, dict(report), REPORT)
    except MlflowException as error:
        raise PipelineError(f"MLflow does not take the report: {error}") from error
