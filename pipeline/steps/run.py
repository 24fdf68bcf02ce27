"""A step's run: W&B's verbs on the tracker in use, and the record of what the step used."""

import argparse
import os
import shutil
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.settings import ROOT
from pipeline.provenance import origin
from pipeline.steps.report import keep_table
from pipeline.tracking import Artifact, Tracker

if TYPE_CHECKING:
    import pandas as pd


class StepRun:
    """A step's run in the tracker, and the record of what it used and produced.

    Attributes:
        folder: a temporary folder for the step's files, removed when it ends.
        tracker: the tracker's project that the run is in.
    """

    def __init__(self, name: str, args: argparse.Namespace, folder: Path):
        self.folder = folder
        self._inputs: list[Artifact] = []
        self._outputs: list[Artifact] = []
        self._metrics: dict[str, float] = {}
        self._notes: list[str] = []
        self._name, self._tables = name, []
        self._sources: list[dict[str, Any]] = []
        self._files: list[str] = []
        self.tracker = Tracker.from_environment()
        self._tracker = self.tracker.open_run(
            job_type=name,
            name=f"{name}-{os.environ.get(settings.RUN_ID) or uuid.uuid4().hex[:8]}",
            config={**vars(args), **_origin()},
        )

    def use(self, reference: str) -> Artifact:
        """Fetch an artifact (``name:v3``, ``name:alias``, ``name:latest``) as an input."""
        into = self.folder / "inputs" / str(len(self._inputs))
        artifact = self._tracker.use(reference, into)
        self._inputs.append(artifact)
        return artifact

    def find(self, reference: str) -> Artifact | None:
        """What is known of an artifact, or None; it is neither fetched nor recorded as an input."""
        return self.tracker.find(reference)

    def log_artifact(
        self,
        path: Path,
        *,
        name: str,
        type: str,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Log a file or folder as an artifact."""
        artifact = self._tracker.log_artifact(name, type, path, description, metadata or {})
        self._outputs.append(artifact)
        if os.environ.get(settings.COPIES):
            _keep_copy(path, Path(os.environ[settings.COPIES], name))
        return artifact

    def set_alias(self, artifact: Artifact, alias: str) -> None:
        """Let an alias mean this version of an artifact from now on."""
        try:
            self.tracker.set_alias(artifact.reference, alias)
        except PipelineError as error:  # the registry counts; a Trackio server can't move it back
            self.warn(f"the tracker's alias {alias!r} is not moved: {error.what}")

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log numbers as the run's result."""
        self._tracker.log_metrics(metrics)
        self._metrics.update(metrics)

    def log_figures(self, figures: Mapping[str, Path]) -> None:
        """Log PNG files as images."""
        self._tracker.log_figures(figures)

    def log_table(self, name: str, table: "pd.DataFrame") -> None:
        """Log a table."""
        self._tracker.log_table(name, table)
        self._tables.append(name)
        keep_table(f"{self._name}.{name}.csv", table)

    def log_bars(self, name: str, values: "pd.Series") -> None:
        """Log one number per label as a bar chart."""
        self._tracker.log_bars(name, values)

    def keep(self, path: Path) -> None:
        """Keep a copy of a file with the step's MLflow run and, in a pipeline, in its folder.

        The orchestrator, which has MLflow in memory, hands the file on to it.
        """
        target = os.environ.get(settings.REPORT)
        if target and target != settings.BY_MLFLOW:
            shutil.copyfile(path, Path(target).with_name(path.name))
            self._files.append(path.name)
        elif os.environ.get("MLFLOW_RUN_ID"):
            import mlflow

            from pipeline.tracking import mlflow_store

            with mlflow_store.active_run(""):
                mlflow.log_artifact(str(path))

    def used_source(self, url: str, **known: Any) -> None:
        """Say what was read from outside the tracker, so that it is noticed when it changes.

        Args:
            url: its address.
            known: what tells this version of it: see :func:`pipeline.sources.changed`.
        """
        self._sources.append({"url": url, **known})

    def warn(self, message: str) -> None:
        """Tell the user something in one line, now and in the pipeline's summary."""
        print(f"warning: {message}", file=sys.stderr)
        self._notes.append(message)

    @property
    def inputs(self) -> list[Artifact]:
        """The artifacts used so far."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[Artifact]:
        """The artifacts logged so far."""
        return list(self._outputs)

    def origin(self) -> dict[str, str]:
        """Where a model of this run comes from, as tags: the pipeline's run, commit and tracker."""
        commit = os.environ.get(settings.GIT_COMMIT) or getattr(origin.commit(ROOT), "sha", "")
        return {
            "pipeline.run_id": os.environ.get(settings.RUN_ID, ""),
            "git.commit": commit,
            "tracker.store": self.tracker.store,
        }

    def finish(self, failed: bool = False) -> None:
        """End the run in the tracker."""
        self._tracker.finish(failed)

    def report(self) -> dict[str, Any]:
        """What the orchestrator records: inputs and outputs by exact version, metrics."""
        return {
            "inputs": [_record(artifact) for artifact in self._inputs],
            "outputs": [_record(artifact) for artifact in self._outputs],
            "metrics": self._metrics,
            "warnings": self._notes,
            "sources": self._sources,
            "environment": origin.environment_lock(),
            "tables": self._tables,
            "files": self._files,
            "tracker_run": self._tracker.id,
            "tracker_url": self._tracker.url,
        }


def _record(artifact: Artifact) -> dict[str, Any]:
    fields = ("name", "version", "digest", "type", "stored")
    return {name: getattr(artifact, name) for name in fields}


def _keep_copy(path: Path, target: Path) -> None:
    """Copy an artifact: as a file, if it is one file of that name, else as a folder."""
    if path.is_dir():
        shutil.copytree(path, target)
    elif path.name == target.name:
        shutil.copyfile(path, target)
    else:
        target.mkdir()
        shutil.copyfile(path, target / path.name)


def _origin() -> dict[str, str]:
    """Where this run belongs, for those who filter runs in the tracker's dashboard."""
    names = {
        "pipeline_run_id": settings.RUN_ID,
        "git_commit": settings.GIT_COMMIT,
        "mlflow_run_id": "MLFLOW_RUN_ID",
        "based_on": settings.BASED_ON,
        **dict(
            zip(("git_snapshot", "git_ref", "git_dirty", "git_diff"), settings.CODE, strict=True)
        ),
    }
    known = {key: os.environ[name] for key, name in names.items() if os.environ.get(name)}
    return {"developer": origin.developer(), **known}
