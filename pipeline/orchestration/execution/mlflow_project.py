"""Runs steps as MLflow projects, and records their results in MLflow."""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import mlflow.projects
from mlflow.entities import RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.projects import SubmittedRun
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT
from mlflow.utils.process import ShellCommandException

from pipeline.core import azure, settings, variables
from pipeline.core.errors import PipelineError
from pipeline.core.files import last_lines, write_whole
from pipeline.core.results import (
    ERROR_TAG,
    LOCK,
    RUN_ID_TAG,
    SUMMARY,
    TABLES,
    StepResult,
)
from pipeline.core.settings import ROOT
from pipeline.core.tracing.dependencies import Evidence, keep_lock
from pipeline.orchestration.execution import backends, environments, prefork, processes
from pipeline.orchestration.execution.backends import Backend
from pipeline.orchestration.execution.workers import Workers
from pipeline.provenance import origin
from pipeline.steps.context import VARIABLE, StepContext
from pipeline.tracking.mlflow import parent_run
from pipeline.tracking.mlflow import retries as mlflow_retries
from pipeline.tracking.mlflow import store as mlflow_store
from pipeline.tracking.mlflow.store import children

LONGEST_PARAMETER = 4000  # MLflow truncates at 6000, including quotes


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step that has run.

    Attributes:
        result: the step's result.
        evidence: what the result depends on; None: it was not traced.
        changed: inputs that changed during the step, which prevent the result's reuse.
    """

    result: StepResult
    evidence: Evidence | None
    changed: list[str]


class Executor:
    """A parent run in MLflow, and the steps run as its children.

    Args:
        run_id, folder: the id and folder of the pipeline's run.
        experiment: the name of the MLflow experiment.
        env_manager, backend, workers: how the steps are executed.
        marker: the marker file, in which the parent run is noted.
        meanwhile: called while a step runs in a worker.
    """

    def __init__(
        self,
        run_id: str,
        folder: Path,
        experiment: str,
        env_manager: str,
        backend: Backend,
        marker: processes.Marker,
        workers: Workers,
        meanwhile: Callable[[], None] = lambda: None,
    ):
        environments.prepare_process()
        variables.set_defaults(mlflow_retries.patience(settings.tracker_timeout()))
        self.backend, self.workers, self._meanwhile = backend, workers, meanwhile
        self.run_id, self.folder, self.env_manager = run_id, folder, env_manager
        with mlflow_store.readable_errors():
            self.experiment = mlflow_store.connect(experiment)
        self.client = mlflow.MlflowClient()
        self.parent: str | None = None
        self._children: set[str] = set()
        self._marker = marker

    @mlflow_store.readable_errors()
    def start(
        self,
        config: str,
        tags: Mapping[str, str],
        commit: origin.Commit | None,
        parameters: Mapping[str, str],
    ) -> None:
        """Begin the parent run.

        Args:
            config: the resolved configuration, as YAML.
            tags: further tags.
            commit: the commit of the working tree; None outside of git.
            parameters: the settings to log as parameters.
        """
        first_tags = {RUN_ID_TAG: self.run_id}  # set at once, so that a killed run is found
        run = mlflow.start_run(experiment_id=self.experiment, run_name=self.run_id, tags=first_tags)
        with contextlib.ExitStack() as on_failure:  # an open run would block the next one
            on_failure.callback(mlflow.end_run, "FAILED")
            self._marker.note(**{processes.MLFLOW_RUN: run.info.run_id})
            all_tags = {"developer": origin.developer(), **tags}
            if commit:
                all_tags |= {MLFLOW_GIT_COMMIT: commit.sha, "git.dirty": str(commit.dirty).lower()}
            mlflow.set_tags(all_tags)
            mlflow.log_params(dict(parameters))
            self._address = run.info.artifact_uri
            with azure.readable_errors(self._address):
                mlflow.log_text(config, "config.yaml")
            on_failure.pop_all()
        self.parent = run.info.run_id

    @mlflow_store.readable_errors()
    def end(
        self,
        status: str,
        metrics: Mapping[str, float],
        summary: str,
        error: BaseException | None = None,
        results: Mapping[str, StepResult] | None = None,
        data_set: str = "",
    ) -> None:
        """End the parent run as FINISHED, FAILED or KILLED, with the results of its steps.

        If recording fails, the run is FAILED. The run ends in any case.

        Args:
            status: the run's final status.
            metrics: the model's metrics.
            summary: the content of ``summary.json``.
            error: the error of a failed run.
            results: the results of the steps, for the description of a successful run.
            data_set: the name of the data set.
        """
        try:
            if isinstance(error, PipelineError):
                mlflow.set_tag(ERROR_TAG, str(error)[:LONGEST_PARAMETER])
            if metrics:
                mlflow.log_metrics(dict(metrics))
            with azure.readable_errors(self._address):
                mlflow.log_text(summary, SUMMARY)
            if results and error is None and self.parent:
                parent_run.describe(self.client, self.parent, data_set, results)
        except BaseException:
            status = "FAILED" if status == "FINISHED" else status
            raise
        finally:
            mlflow.end_run(status)

    @mlflow_store.readable_errors()
    def run(self, step: str, parameters: Mapping[str, Any], context: StepContext) -> Outcome:
        """Run a step's folder as an MLflow project, and wait for its end.

        Raises:
            PipelineError: the step failed; the message is the step's, or the end of its log.
            KeyboardInterrupt: the step was stopped; its MLflow run is KILLED.
        """
        log, report = self.folder / f"{step}.log", self.folder / f"{step}.json"
        context = replace(context, report=str(report), trace=True)
        started = time.monotonic()
        try:
            with _output_to(log):
                if self.backend.remote:
                    submitted = self._run_remote(step, parameters, context)
                else:
                    environments.ensure(ROOT / step, self.env_manager)
                    with variables.temporarily({VARIABLE: context.to_json()}):
                        submitted = mlflow.projects.run(
                            str(ROOT / step),
                            **self._options(step, parameters),
                            **self._own_backend(log),
                        )
        except KeyboardInterrupt:
            self._end_child(RunStatus.KILLED)
            raise
        except (MlflowException, ShellCommandException) as error:
            if _interrupted(error):  # MLflow could not record the status
                self._end_child(RunStatus.KILLED)
                raise KeyboardInterrupt from error
            self._fetch_report(self._end_child(RunStatus.FAILED), report)
            raise _failure(step, report, log, error, self.backend) from error
        return self._outcome(step, str(submitted.run_id), report, log, time.monotonic() - started)

    def _outcome(self, step: str, id: str, report: Path, log: Path, seconds: float) -> Outcome:
        """The outcome of a successful step, from its report.

        Args:
            step: the step's folder.
            id: its run in MLflow.
            report: the file of its report.
            log: the file of its log.
            seconds: its duration.

        Raises:
            PipelineError: the step has written no report.
        """
        self._children.add(id)
        self._fetch_report(id, report)
        if not report.is_file():
            self.client.set_terminated(id, "FAILED")
            raise PipelineError(
                f"{step} ended on main.backend={self.backend.name} without a report",
                "the backend has to set MLFLOW_RUN_ID and MLFLOW_TRACKING_URI for the step: "
                f"docs/remote.md\nfull log: {log}",
            )
        content = json.loads(report.read_text(encoding="utf-8"))
        content["environment"] = keep_lock(content["environment"])
        evidence_fields, changed = content.pop("evidence"), content.pop("changed")
        for name in content.pop("files"):
            self.client.log_artifact(id, str(self.folder / name))
        content |= {"pipeline_run": self.run_id, "mlflow_run": id}
        evidence = Evidence(**evidence_fields) if evidence_fields else None
        return Outcome(StepResult(step, "ran", seconds, **content), evidence, changed)

    def build_ahead(self, steps: Iterable[str]) -> list[str]:
        """Start to build missing environments of steps; returns the steps concerned."""
        if self.backend.remote:
            return []
        folders = [ROOT / step for step in steps]
        return [folder.name for folder in environments.build_ahead(folders, self.env_manager)]

    def ensure_environment(self, step: str) -> None:
        """Build a step's environment, unless it exists.

        Raises:
            PipelineError: the build failed.
        """
        log = self.folder / f"{step}.log"
        try:
            with _output_to(log):
                environments.ensure(ROOT / step, self.env_manager)
        except (MlflowException, ShellCommandException) as error:
            raise _failure(step, self.folder / f"{step}.json", log, error, self.backend) from error

    def _options(self, step: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "parameters": {key: _text(value) for key, value in parameters.items()},
            "experiment_id": self.experiment,
            "run_name": step,
            "env_manager": self.env_manager,
        }

    def _own_backend(self, log: Path) -> dict[str, Any]:
        own = self.backend.name == backends.PREFORK
        return prefork.options(self.workers, log, self._meanwhile) if own else {}

    def _run_remote(
        self, step: str, parameters: Mapping[str, Any], context: StepContext
    ) -> SubmittedRun:
        """Run a step on a backend that may use another machine."""
        arguments = {key: as_text(value) for key, value in parameters.items()}
        folder = self.folder / "remote" / step
        options = self._options(step, parameters)
        return backends.run(self.backend, step, arguments, folder, context, **options)

    def _fetch_report(self, run_id: str | None, path: Path) -> None:
        """Write the report of a remote step to the path of a local step's report."""
        if run_id and self.backend.remote:
            with azure.readable_errors(self._address):
                content = backends.report(self.client, run_id)
            if content is not None:
                write_whole(path, json.dumps(content))

    @mlflow_store.readable_errors()
    def record(self, result: StepResult) -> None:
        """Record a finished step's inputs and outputs as tags of its MLflow run."""
        run, environment = result.mlflow_run, result.environment
        if run is None or environment is None:
            return  # MLflow has not run it
        tags = {RUN_ID_TAG: self.run_id, "pipeline.step": result.step}
        for direction in ("inputs", "outputs"):
            for artifact in getattr(result, direction):
                key = f"pipeline.{direction}.{artifact['name']}"
                tags[key] = f"{artifact['version']} {artifact['digest']}"
        if result.tracker_url:
            tags["tracker.url"] = result.tracker_url
        batch = [RunTag(key, value) for key, value in tags.items()]
        self._attach(result.step, run, environment)
        self.client.log_batch(run, tags=batch)  # last, as these tags mark the step as complete

    def _attach(self, step: str, run: str, environment: str) -> None:
        """Log a step's package lock and its tables to its MLflow run."""
        lock = settings.lock_file(environment).read_text(encoding="utf-8")
        with azure.readable_errors(self._address):
            self.client.log_text(run, lock, LOCK)
            for table in self.folder.glob(f"{step}.*.csv"):
                self.client.log_artifact(run, str(table), TABLES)

    @mlflow_store.readable_errors()
    def files(self, result: StepResult) -> dict[str, str]:
        """Digests of the files that MLflow stores for a step in the state folder, by path."""
        if result.mlflow_run is None:
            return {}
        return mlflow_store.local_files(mlflow_store.addresses(self.client, result.mlflow_run))

    def _end_child(self, status: int) -> str | None:
        """Set the final status of a step that failed, and return its run, which MLflow did not."""
        ended = None
        # the step's own error matters more
        with mlflow_retries.without_retries(), contextlib.suppress(MlflowException):
            for run in children(self.client, self.experiment, self.parent or ""):
                if run.info.run_id not in self._children:
                    self.client.set_terminated(run.info.run_id, RunStatus.to_string(status))
                    self._children.add(run.info.run_id)
                    ended = run.info.run_id
        return ended


def as_text(value: Any) -> str:
    """A parameter as text; other types become JSON."""
    if value is None:
        return ""
    return str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    """A parameter as text; long JSON is written to a file and becomes ``@PATH``."""
    text = as_text(value)
    if isinstance(value, str) or len(text) <= LONGEST_PARAMETER:
        return text
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = settings.state_dir() / "parameters" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return f"@{path}"


def _interrupted(error: BaseException) -> bool:
    """Whether an error was raised while KeyboardInterrupt was handled."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__context__
    return cause is not None


def _failure(
    step: str, report: Path, log: Path, cause: Exception, backend: Backend
) -> PipelineError:
    """The error of a failed step: from its report, else from its log or from MLflow."""
    content = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    if error := content.get("error"):  # absent if the step was killed after its report
        remedy = f"{error['remedy']}\nfull log: {log}".strip()
        return PipelineError(f"{step} failed: {error['what']}", remedy)
    if backend.remote:
        return PipelineError(
            f"{step} failed on main.backend={backend.name}: {backends.shortened(str(cause))}",
            f"see the backend for the step's output, and this log for MLflow's: {log}",
        )
    tail = "\n".join(last_lines(log)) or str(cause)
    if isinstance(cause, ShellCommandException):
        return PipelineError(
            f"the environment of {step} could not be built; the end of its log:\n{tail}",
            f"see main.env_manager; `local` runs the steps in this environment\nfull log: {log}",
        )
    return PipelineError(f"{step} failed; the end of its log:\n{tail}", f"full log: {log}")


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Redirect the output of this process and its children to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for copy, target in zip(saved, (1, 2), strict=True):
            os.dup2(copy, target)
            os.close(copy)
