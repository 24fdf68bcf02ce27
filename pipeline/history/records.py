"""The runs of the pipeline that were made, here and by colleagues on the same MLflow server.

Every run leaves ``summary.json``: in its folder, and, if anything had to be run, as an artifact of
its MLflow run. Both are the same text and are read by the same function.
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
    """One run of the pipeline, as it was recorded.

    Attributes:
        id: as main.py prints it.
        status: finished, failed, killed, or running.
        commit: the commit its code is based on; None outside a git repository.
        dirty: whether the code differed from that commit; None where it is not known.
        config: the resolved configuration.
        metrics: the model's.
        steps: by folder name. A run that was killed without a word has none.
        mlflow_run: id of its MLflow run; None if nothing had to be run.
        folder: what it left on this machine, if it was made here.
        summary: all that was recorded.
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
        """Which run it is, for programs."""
        return {
            "run": self.id,
            "status": self.status,
            "started": self.started.isoformat(timespec="seconds"),
            "developer": self.developer,
            "experiment": self.experiment,
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """The configuration as dotted keys, under the names that they have today."""
        recorded = flat(self.config)
        moved = {key: name for key in recorded if (name := current_name(key)) != key}
        kept = {key: value for key, value in recorded.items() if key not in moved}
        return {name: recorded[key] for key, name in moved.items()} | kept

    @property
    def artifacts(self) -> dict[str, dict[str, Any]]:
        """Each artifact that the run read or made, by name: its version, digest and type."""
        found: dict[str, dict[str, Any]] = {}
        for step in self.steps.values():
            if step.status != "skipped":
                found |= {artifact["name"]: artifact for artifact in step.inputs + step.outputs}
        return found

    @property
    def test(self) -> str | None:
        """Digest of the data that its metrics are of; None where that is not known."""
        name = self.config.get("split", {}).get("test_artifact_name")
        return self.artifacts.get(name, {}).get("digest")

    @property
    def result(self) -> str:
        """What its metrics are of: the same for all runs that handed on one trained model."""
        measured = [step.fingerprint for step in self.steps.values() if step.metrics]
        return (measured or [None])[-1] or self.id


def flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Dotted keys for nested ones; lists are values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def read_text(path: Path) -> str:
    """The text of a run's record.

    Raises:
        PipelineError: it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(place: object, error: Exception) -> PipelineError:
    return PipelineError(
        f"the record of a run is damaged: {place} ({type(error).__name__}: {error})",
        "remove that run's folder, or run the pipeline again",
    )


def record(text: str, place: object, folder: Path | None = None) -> RunRecord:
    """A run from its ``summary.json``.

    Args:
        text: the summary.
        place: where it was read, for the message.
        folder: the run's folder on this machine.

    Raises:
        PipelineError: it is not what a run writes.
    """
    try:
        told = parse_record(text)
        known = {field.name for field in fields(StepResult)}
        steps = {
            name: parse_result({key: step[key] for key in known & step.keys()})
            for name, step in told["steps"].items()
        }
        made = RunRecord(
            id=told["run_id"],
            status=told["status"],
            started=datetime.fromisoformat(told["started"]),
            developer=told["developer"],
            project=told["project"],
            experiment=told["experiment"],
            tracker=told["tracker"],
            commit=told["git_commit"],
            dirty=told["git_dirty"],
            config=told["config"],
            metrics=told["metrics"],
            steps=steps,
            mlflow_run=told["mlflow_run"],
            folder=folder,
            summary=told,
        )
        check_types(made)
        _ = [number(value) for value in made.metrics.values()]
        _ = made.test, made.artifacts, {**(told.get("snapshot") or {})}
        _ = (told.get("based_on") or "") + ""
    except UNUSABLE as error:
        raise _damaged(place, error) from error
    return made
