"""Runs one step as an MLflow project, and records on its MLflow run what came of it."""

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
from pipeline.core.dependencies import Evidence, keep_lock
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
from pipeline.orchestration.execution import backends, environments, prefork, processes
from pipeline.orchestration.execution.backends import Backend
from pipeline.orchestration.execution.workers import Workers
from pipeline.provenance import origin
from pipeline.steps.context import VARIABLE, StepContext
from pipeline.tracking.mlflow import parent_run
from pipeline.tracking.mlflow import retries as mlflow_retries
from pipeline.tracking.mlflow import store as mlflow_store
from pipeline.tracking.mlflow.store import children

LONGEST_PARAMETER = 4000  # MLflow cuts what is longer than 6000, quotes included


@dataclass(frozen=True)
class Outcome:
    """A step that has run.

    Attributes:
        result: what it came to.
        evidence: what that depends on; None: nobody recorded it.
        changed: what changed meanwhile, so that it proves nothing.
    """

    result: StepResult
    evidence: Evidence | None
    changed: list[str]


class Executor:
    """A parent run in MLflow, and the steps run as its children.

    Args:
        run_id, folder: of the whole pipeline's run.
        experiment: MLflow's.
        env_manager, backend, workers: what the steps run in.
        marker: where the parent run is noted.
        meanwhile: is called while a step runs in a worker: what can be done then.
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
        with mlflow_store.told():
            self.experiment = mlflow_store.connect(experiment)
        self.client = mlflow.MlflowClient()
        self.parent: str | None = None
        self._children: set[str] = set()
        self._marker = marker

    @mlflow_store.told()
    def start(
        self,
        config: str,
        tags: Mapping[str, str],
        commit: origin.Commit | None,
        parameters: Mapping[str, str],
    ) -> None:
        """Begin the parent run, with the resolved configuration and the commit.

        Args:
            parameters: the settings to be shown of the run.
        """
        known = {RUN_ID_TAG: self.run_id}  # at once, so that it is found if all ends here
        run = mlflow.start_run(experiment_id=self.experiment, run_name=self.run_id, tags=known)
        with contextlib.ExitStack() as on_failure:  # a run left open would be in the next one's way
            on_failure.callback(mlflow.end_run, "FAILED")
            self._marker.note(**{processes.MLFLOW_RUN: run.info.run_id})
            told = {"developer": origin.developer(), **tags}
            if commit:
                told |= {MLFLOW_GIT_COMMIT: commit.sha, "git.dirty": str(commit.dirty).lower()}
            mlflow.set_tags(told)
            mlflow.log_params(parameters)
            self._address = run.info.artifact_uri
            with azure.readable_errors(self._address):
                mlflow.log_text(config, "config.yaml")
            on_failure.pop_all()
        self.parent = run.info.run_id

    @mlflow_store.told()
    def end(
        self,
        status: str,
        metrics: Mapping[str, float],
        summary: str,
        error: BaseException | None = None,
        results: Mapping[str, StepResult] | None = None,
        data_set: str = "",
    ) -> None:
        """End the parent run: FINISHED, FAILED (and why) or KILLED, with what its steps came to.

        One whose record can't be completed is FAILED; it ends in any case.

        Args:
            results: of the steps, to describe a run that has ended well.
            data_set: the name of its data set.
        """
        try:
            if isinstance(error, PipelineError):
                mlflow.set_tag(ERROR_TAG, str(error)[:LONGEST_PARAMETER])
            if metrics:
                mlflow.log_metrics(dict(metrics))
            with azure.readable_errors(self._address):
                mlflow.log_text(summary, SUMMARY)
            if results and error is None:
                parent_run.describe(self.client, self.parent, data_set, results)
        except BaseException:
            status = "FAILED" if status == "FINISHED" else status
            raise
        finally:
            mlflow.end_run(status)

    @mlflow_store.told()
    def run(self, step: str, parameters: Mapping[str, Any], context: StepContext) -> Outcome:
        """Run a step to its end, as the MLflow project that its folder is.

        Raises:
            PipelineError: it failed; the message is the step's own, or the end of its log.
            KeyboardInterrupt: it was stopped; its MLflow run says KILLED.
        """
        log, report = self.folder / f"{step}.log", self.folder / f"{step}.json"
        context = replace(context, report=str(report), trace=True)
        started = time.monotonic()
        try:
            with _output_to(log):
                if self.backend.remote:
                    submitted = self._run_elsewhere(step, parameters, context)
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
            if _interrupted(error):  # and then MLflow could not record it
                self._end_child(RunStatus.KILLED)
                raise KeyboardInterrupt from error
            self._fetch_report(self._end_child(RunStatus.FAILED), report)
            raise _failure(step, report, log, error, self.backend) from error
        return self._ran(step, submitted.run_id, report, log, time.monotonic() - started)

    def _ran(self, step: str, id: str, report: Path, log: Path, seconds: float) -> Outcome:
        """What a step that has ended well reported.

        Args:
            id: its run in MLflow.

        Raises:
            PipelineError: it reported nothing.
        """
        self._children.add(id)
        self._fetch_report(id, report)
        if not report.is_file():
            self.client.set_terminated(id, "FAILED")
            raise PipelineError(
                f"{step} ended on main.backend={self.backend.name} and reported nothing",
                "the backend has to hand MLFLOW_RUN_ID and MLFLOW_TRACKING_URI to the step: "
                f"docs/remote.md\nfull log: {log}",
            )
        told = json.loads(report.read_text(encoding="utf-8"))
        told["environment"] = keep_lock(told["environment"])
        found, changed = told.pop("evidence"), told.pop("changed")
        for name in told.pop("files"):
            self.client.log_artifact(id, str(self.folder / name))
        told |= {"pipeline_run": self.run_id, "mlflow_run": id}
        evidence = Evidence(**found) if found else None
        return Outcome(StepResult(step, "ran", seconds, **told), evidence, changed)

    def build_ahead(self, steps: Iterable[str]) -> list[str]:
        """Begin to build the environments that steps of this run lack; these steps."""
        if self.backend.remote:
            return []
        folders = [ROOT / step for step in steps]
        return [folder.name for folder in environments.build_ahead(folders, self.env_manager)]

    def ensure_environment(self, step: str) -> None:
        """Build a step's environment, unless it is there.

        Raises:
            PipelineError: that failed.
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

    def _run_elsewhere(
        self, step: str, parameters: Mapping[str, Any], context: StepContext
    ) -> SubmittedRun:
        """Run a step by a backend that may be on another machine."""
        arguments = {key: as_text(value) for key, value in parameters.items()}
        folder = self.folder / "remote" / step
        options = self._options(step, parameters)
        return backends.run(self.backend, step, arguments, folder, context, **options)

    def _fetch_report(self, run_id: str | None, path: Path) -> None:
        """Bring the report of a step that ran elsewhere to where one of here would be."""
        if run_id and self.backend.remote:
            with azure.readable_errors(self._address):
                told = backends.report(self.client, run_id)
            if told is not None:
                write_whole(path, json.dumps(told))

    @mlflow_store.told()
    def record(self, result: StepResult) -> None:
        """Write on a finished step's MLflow run exactly what it used and produced."""
        tags = {RUN_ID_TAG: self.run_id, "pipeline.step": result.step}
        for direction in ("inputs", "outputs"):
            for artifact in getattr(result, direction):
                key = f"pipeline.{direction}.{artifact['name']}"
                tags[key] = f"{artifact['version']} {artifact['digest']}"
        if result.tracker_url:
            tags["tracker.url"] = result.tracker_url
        batch = [RunTag(key, value) for key, value in tags.items()]
        self._attach(result)
        self.client.log_batch(result.mlflow_run, tags=batch)  # last: now the step counts

    def _attach(self, result: StepResult) -> None:
        """Put what a step ran with, and the tables it made, beside its MLflow run's model."""
        lock = settings.lock_file(result.environment).read_text(encoding="utf-8")
        with azure.readable_errors(self._address):
            self.client.log_text(result.mlflow_run, lock, LOCK)
            for table in self.folder.glob(f"{result.step}.*.csv"):
                self.client.log_artifact(result.mlflow_run, str(table), TABLES)

    @mlflow_store.told()
    def files(self, result: StepResult) -> dict[str, str]:
        """What MLflow keeps of a step in the state folder: files by place, with their digests."""
        return mlflow_store.local_files(mlflow_store.addresses(self.client, result.mlflow_run))

    def _end_child(self, status: int) -> str | None:
        """Give the step that did not come back its final state; MLflow does not name it."""
        ended = None
        # why the step ended is what counts
        with mlflow_retries.once(), contextlib.suppress(MlflowException):
            for run in children(self.client, self.experiment, self.parent):
                if run.info.run_id not in self._children:
                    self.client.set_terminated(run.info.run_id, RunStatus.to_string(status))
                    self._children.add(run.info.run_id)
                    ended = run.info.run_id
        return ended


def as_text(value: Any) -> str:
    """A parameter as text: JSON for what is not text."""
    if value is None:
        return ""
    return str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    """A parameter as text; a file for what is long."""
    text = as_text(value)
    if isinstance(value, str) or len(text) <= LONGEST_PARAMETER:
        return text
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = settings.state_dir() / "parameters" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return f"@{path}"


def _interrupted(error: BaseException) -> bool:
    """Whether an error came up while Ctrl-C was being handled."""
    found: BaseException | None = error
    while found and not isinstance(found, KeyboardInterrupt):
        found = found.__context__
    return found is not None


def _failure(
    step: str, report: Path, log: Path, cause: Exception, backend: Backend
) -> PipelineError:
    """A step's own words, where it had any; else the end of its log, or MLflow's words."""
    told = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    if error := told.get("error"):  # none, where it was killed when all was done
        remedy = f"{error['remedy']}\nfull log: {log}".strip()
        return PipelineError(f"{step} failed: {error['what']}", remedy)
    if backend.remote:
        return PipelineError(
            f"{step} failed on main.backend={backend.name}: {backends.shortened(str(cause))}",
            f"what it printed is where the backend keeps it; what was said here: {log}",
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
    """Send all that this process and its children print into a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for copy, target in zip(kept, (1, 2), strict=True):
            os.dup2(copy, target)
            os.close(copy)
