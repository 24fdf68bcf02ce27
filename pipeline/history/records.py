"""Records of pipeline runs, made here or by colleagues on the same MLflow server.

Every run writes ``summary.json`` to its folder and, if a step was executed, logs it as an artifact
of its MLflow run. Both copies have the same text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.config.schema import current_name
from pipeline.core.errors import PipelineError
from pipeline.core.files import UNUSABLE, parse_record
from pipeline.core.numbers import number
from pipeline.core.results import StepResult, check_types, parse_result


@dataclass(frozen=True)
class RunRecord:
    """The record of one pipeline run.

    Attributes:
        id: the id that main.py prints.
        status: finished, failed, killed, or running.
        commit: the commit that the code is based on; None outside a git repository.
        dirty: whether the code differed from that commit; None if unknown.
        config: the resolved configuration.
        metrics: the model's metrics.
        steps: results by step folder; empty if the run was killed before it wrote a summary.
        mlflow_run: id of its MLflow run; None if no step was executed.
        folder: the run's folder; None if it was made on another machine.
        summary: the content of ``summary.json``.
    """

    id: str
    status: str
    started: datetime
    developer: str
    project: str
    experiment: str
    tracker: str
    commit: str | None
    dirty: bool | None
    config: dict[str, Any]
    metrics: dict[str, float]
    steps: dict[str, StepResult]
    mlflow_run: str | None
    folder: Path | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> dict[str, Any]:
        """Fields that identify the run in JSON and CSV output."""
        return {
            "run": self.id,
            "status": self.status,
            "started": self.started.isoformat(timespec="seconds"),
            "developer": self.developer,
            "experiment": self.experiment,
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """The configuration as dotted keys; renamed keys have their current names."""
        recorded = flat(self.config)
        renamed = {key: name for key in recorded if (name := current_name(key)) != key}
        unchanged = {key: value for key, value in recorded.items() if key not in renamed}
        return {name: recorded[key] for key, name in renamed.items()} | unchanged

    @property
    def artifacts(self) -> dict[str, dict[str, Any]]:
        """The input and output artifacts by name, each with its version, digest and type."""
        artifacts: dict[str, dict[str, Any]] = {}
        for step in self.steps.values():
            if step.status != "skipped":
                artifacts |= {artifact["name"]: artifact for artifact in step.inputs + step.outputs}
        return artifacts

    @property
    def test_digest(self) -> str | None:
        """Digest of the test data; None if unknown."""
        name = self.config.get("split", {}).get("test_artifact_name")
        return self.artifacts.get(name, {}).get("digest")

    @property
    def result_id(self) -> str:
        """Identifies the measured model: equal for all runs that reused it from the cache."""
        fingerprints = [step.fingerprint for step in self.steps.values() if step.metrics]
        return (fingerprints or [None])[-1] or self.id


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested keys into dotted keys; lists are values."""
    flattened: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flattened |= flat(value, f"{prefix}{key}.")
        else:
            flattened[f"{prefix}{key}"] = value
    return flattened


def read_text(path: Path) -> str:
    """The text of a run's record.

    Raises:
        PipelineError: The file can't be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(source: object, error: Exception) -> PipelineError:
    return PipelineError(
        f"the record of a run is damaged: {source} ({type(error).__name__}: {error})",
        "remove that run's folder, or run the pipeline again",
    )


def parse_summary(text: str, source: object, folder: Path | None = None) -> RunRecord:
    """Parse a run's ``summary.json``.

    Args:
        text: the content of ``summary.json``.
        source: where the text was read, for error messages.
        folder: the run's folder on this machine.

    Raises:
        PipelineError: The summary is damaged.
    """
    try:
        summary = parse_record(text)
        result_fields = {field.name for field in fields(StepResult)}
        steps = {
            name: parse_result({key: step[key] for key in result_fields & step.keys()})
            for name, step in summary["steps"].items()
        }
        run = RunRecord(
            id=summary["run_id"],
            status=summary["status"],
            started=datetime.fromisoformat(summary["started"]),
            developer=summary["developer"],
            project=summary["project"],
            experiment=summary["experiment"],
            tracker=summary["tracker"],
            commit=summary["git_commit"],
            dirty=summary["git_dirty"],
            config=summary["config"],
            metrics=summary["metrics"],
            steps=steps,
            mlflow_run=summary["mlflow_run"],
            folder=folder,
            summary=summary,
        )
        check_types(run)
        _ = [number(value) for value in run.metrics.values()]
        _ = run.test_digest, run.artifacts, {**(summary.get("snapshot") or {})}
        _ = (summary.get("based_on") or "") + ""
    except UNUSABLE as error:
        raise _damaged(source, error) from error
    return run
