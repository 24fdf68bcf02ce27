"""A step's run: W&B's methods on the tracker in use, and the step's report."""

import argparse
import json
import os
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import Any, cast

from pipeline import tracking
from pipeline.core.errors import PipelineError
from pipeline.core.files import content_digest
from pipeline.core.results import RECORD, RUN_ID_TAG, records_of
from pipeline.core.security import secrets
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.provenance import origin
from pipeline.steps.context import BY_MLFLOW, StepContext
from pipeline.steps.report import keep_table
from pipeline.steps.tracing import trace
from pipeline.tracking import Artifact, Tracker

MADE = ("made", "run", "commit")  # keys of an artifact's metadata


class Config(dict[str, Any]):
    """A run's settings: ``run.config["epochs"]``, or ``run.config.epochs``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    __setattr__ = dict.__setitem__


class Run:
    """A step's run in the tracker, and the record of its inputs and outputs.

    The methods are those of ``wandb.Run``, for every tracker.

    Attributes:
        folder: a temporary folder for the step's files, removed at the end of the run.
        context: the pipeline's run and commit that the step belongs to.
        tracker: the tracker's project.
        job_type: the step's name.
        config: the run's settings, initially the step's parameters.
        summary: the run's metrics: the last logged values, unless set here.
    """

    def __init__(
        self,
        name: str,
        args: argparse.Namespace,
        folder: Path,
        context: StepContext,
        recorded: Mapping[str, Any] | None = None,
    ):
        self.folder, self.job_type, self.context = folder, name, context
        self.config, self.summary = Config(vars(args)), dict[str, Any]()
        self._settings, self._logged = dict(self.config), dict[str, Any]()
        self._inputs: list[Artifact] = []
        self._outputs: list[Artifact] = []
        self._notes: list[str] = []
        self._decided: list[dict[str, Any]] = []
        self._tables: list[str] = []
        self._sources: list[dict[str, Any]] = []
        self._files: list[str] = []
        self.tracker = Tracker.from_environment()
        self._tracker = self.tracker.open_run(
            job_type=name,
            name=f"{name}-{context.run_id or uuid.uuid4().hex[:8]}",
            config={**(vars(args) if recorded is None else recorded), **context.labels()},
        )

    def use_artifact(self, reference: str, type: str | None = None) -> Artifact:
        """Fetch an artifact (``name:v3``, ``name:alias``, ``name:latest``) as an input.

        Raises:
            PipelineError: the artifact does not exist, is damaged, or has another type.
        """
        into = self.folder / "inputs" / str(len(self._inputs))
        artifact = self._tracker.use_artifact(reference, into)
        if type and artifact.type != type:
            raise PipelineError(
                f"artifact {artifact.reference} is of type {artifact.type!r}, not {type!r}",
                "name an artifact of that type",
            )
        self._inputs.append(artifact)
        return artifact

    def find(self, reference: str | None) -> Artifact | None:
        """Look an artifact up, without fetching it or recording it as an input; None if missing."""
        return self.tracker.find(reference) if reference else None

    def log_artifact(
        self,
        artifact_or_path: Any,
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] = (),
        *,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Log a file or folder as an artifact.

        Args:
            artifact_or_path: a path; or a ``wandb.Artifact`` or ``trackio.Artifact``, whose own
                name, type, description and metadata are used.
            name: the artifact's name; default: the file's name.
            type: such as ``processed_data``.
            aliases: further aliases of this version, beside ``latest``.
            description: a sentence about the artifact.
            metadata: further metadata; the step's notes so far are added.
        """
        if isinstance(artifact_or_path, str | os.PathLike):
            path = Path(artifact_or_path)
        else:
            artifact_object = artifact_or_path
            path = self.folder / "outputs" / str(len(self._outputs))
            _copy_files(tracking.files_of(artifact_object), path)
            name, type = artifact_object.name, artifact_object.type
            description, metadata = artifact_object.description or "", artifact_object.metadata
        name = name or path.name
        notes = {"notes": list(self._decided)} if self._decided else {}
        details = (
            type or "unspecified",
            secrets.for_display(description),
            secrets.for_display({**notes, **(metadata or {})} or None),
            aliases,
        )
        artifact = self._tracker.log_artifact(path, name, *details)
        self._outputs.append(artifact)
        if self.context.copies:
            _keep_copy(path, Path(self.context.copies, name))
        return artifact

    def set_alias(self, artifact: Artifact, alias: str) -> None:
        """Move an alias to this version of an artifact."""
        try:
            self.tracker.set_alias(artifact.reference, alias)
        # the registry decides; a Trackio server can't move aliases back
        except PipelineError as error:
            self.warn(f"the tracker's alias {alias!r} is not moved: {error.what}")

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics, images and tables by name.

        Args:
            values: numbers; a ``Path`` of a PNG file, a ``DataFrame``, or a ``Series`` with a
                number per label, which is drawn as bars; figures, images and tables of the
                tracker's library.
            step: the position of the values in a series, such as an epoch.
        """
        self._tracker.log(values, step)
        numbers = {name: value for name, value in values.items() if isinstance(value, Real)}
        self._logged.update(numbers)
        self.summary.update(numbers)
        for name, value in values.items():
            if tracking.is_table(value):
                self._tables = [*dict.fromkeys([*self._tables, name])]
                keep_table(f"{self.job_type}.{name}.csv", value, self.context)

    def keep(self, path: Path) -> None:
        """Store a file in the step's MLflow run and, in a pipeline, in the run's folder.

        In a pipeline the orchestrator logs the file, as it has MLflow loaded.
        """
        target = self.context.report
        if target and target != BY_MLFLOW:
            shutil.copyfile(path, Path(target).with_name(path.name))
            self._files.append(path.name)
        elif os.environ.get("MLFLOW_RUN_ID"):
            import mlflow

            from pipeline.tracking.mlflow import store as mlflow_store

            with mlflow_store.active_run(""):
                mlflow.log_artifact(str(path))

    def used_source(self, url: str, **version: Any) -> None:
        """Record a source outside of the tracker, so that its changes are noticed.

        Args:
            url: the source's address.
            version: its version: see :func:`pipeline.cache.sources.changed`.
        """
        self._sources.append({"url": secrets.hide(url), **version})

    def warn(self, message: str) -> None:
        """Show a warning of one line, now and in the pipeline's summary."""
        message = secrets.for_display(message)
        say(f"warning: {message}", file=sys.stderr)
        self._notes.append(message)

    def note(self, message: str, warning: bool = False) -> None:
        """Show a decision about the data, now and in the pipeline's summary.

        Notes are stored with the result, so a reused result has them too.

        Args:
            message: one line.
            warning: whether the user probably wants something else.
        """
        message = secrets.for_display(message)
        say(f"{'warning' if warning else 'note'}: {message}", file=sys.stderr)
        self._decided.append({"text": message, "warning": warning})

    @property
    def inputs(self) -> list[Artifact]:
        """The artifacts used so far."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[Artifact]:
        """The artifacts logged so far."""
        return list(self._outputs)

    def origin(self) -> dict[str, str]:
        """The origin of a model of this run, as tags: the pipeline's run, commit and tracker."""
        return {
            RUN_ID_TAG: self.context.run_id,
            "git.commit": self.context.commit or getattr(origin.commit(ROOT), "sha", ""),
            "tracker.store": self.tracker.store,
        }

    def first_made(self, path: Path, name: str) -> dict[str, str]:
        """When, in which run and from which commit an artifact's content was first made.

        Args:
            path: the content.
            name: the artifact's name.
        """
        latest = self.find(f"{name}:latest")
        if latest and latest.digest == content_digest(path) and "made" in latest.metadata:
            return {key: latest.metadata[key] for key in MADE if key in latest.metadata}
        dirty_mark = "*" if self.context.dirty and self.context.commit else ""
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        values = zip(
            MADE, (now, self.context.run_id, self.context.commit + dirty_mark), strict=True
        )
        return {key: text for key, text in values if text}

    def finish(self, failed: bool = False, error: BaseException | None = None) -> None:
        """End the run in the tracker as finished, failed or killed, depending on the error."""
        summary = _changed(self._logged, self.summary)
        config = _changed(self._settings, self.config)
        if (summary or config) and not failed:
            self._tracker.update(summary, secrets.hide(config))
        self._tracker.finish(failed, error)

    def evidence(self) -> dict[str, Any]:
        """The evidence for the result's reuse, and the inputs that changed during the step.

        On a shared tracker the evidence is also logged as an artifact, with the cache key as alias.
        """
        recorded = trace.evidence(self.context)
        if recorded is None:
            return {"evidence": None, "changed": []}
        evidence, changed = asdict(recorded[0]), recorded[1]
        if self.tracker.shared and self.context.key and not changed:
            path = self.folder / RECORD
            path.write_text(json.dumps({"evidence": evidence, "report": self.report()}))
            details = (records_of(self.job_type), "step_record", "how the step's result is reused")
            self._tracker.log_artifact(path, *details, aliases=[self.context.key])
        return {"evidence": evidence, "changed": changed}

    def report(self) -> dict[str, Any]:
        """The report for the orchestrator: inputs and outputs by exact version, metrics."""
        return {
            "inputs": [_record(artifact) for artifact in self._inputs],
            "outputs": [_record(artifact) for artifact in self._outputs],
            "metrics": _numbers(self.summary),
            "warnings": self._notes,
            "notes": self._decided,
            "sources": self._sources,
            "environment": trace.environment(),
            "pipeline_run": self.context.run_id,
            "mlflow_run": os.environ.get("MLFLOW_RUN_ID"),
            "tables": self._tables,
            "files": self._files,
            "tracker_run": self._tracker.id,
            "tracker_url": self._tracker.url,
        }


def _record(artifact: Artifact) -> dict[str, Any]:
    fields = ("name", "version", "digest", "type", "stored")
    return {name: getattr(artifact, name) for name in fields}


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are new or changed."""
    return {key: value for key, value in now.items() if key not in before or before[key] != value}


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary as Python numbers, converted from NumPy if necessary."""
    return {
        name: cast(Any, value).item() if hasattr(value, "item") else cast(float, value)
        for name, value in summary.items()
        if isinstance(value, Real)
    }


def _copy_files(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files into a folder, under their names in an artifact."""
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _keep_copy(path: Path, target: Path) -> None:
    """Copy an artifact: as a file if it is one file with that name, else as a folder."""
    if path.is_dir():
        shutil.copytree(path, target)
    elif path.name == target.name:
        shutil.copyfile(path, target)
    else:
        target.mkdir()
        shutil.copyfile(path, target / path.name)
