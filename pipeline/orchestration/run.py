"""The orchestrator: runs the chosen steps, or reuses their earlier results.

MLflow is imported when the first step has to run. A run that reuses every result only reads a few
small files.
"""

import contextlib
import gc
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock

from pipeline import tracking
from pipeline.cache.compare import CurrentState, Parts, declared_files, key_parts, untraced_evidence
from pipeline.cache.finished import Cache, Lock, Record, fingerprint
from pipeline.config import job as hydra_job
from pipeline.config import references
from pipeline.config.job import Job
from pipeline.config.schema import plain
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.results import TRACKER_TAG, Reference, StepResult
from pipeline.core.security import hardening
from pipeline.core.settings import ROOT
from pipeline.orchestration import context, summary
from pipeline.orchestration.execution import backends, processes, workers
from pipeline.orchestration.reuse import Reuse
from pipeline.orchestration.terminal import Screen, print_result
from pipeline.orchestration.tracked import TrackedRun
from pipeline.provenance import origin, snapshot
from pipeline.provenance.git import GitError
from pipeline.steps.folders import chosen_steps, step_folders
from pipeline.tracking import RequestedRun
from pipeline.tracking.mlflow import retries as mlflow_retries

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.orchestration.execution.mlflow_project import Executor, Outcome


class Pipeline:
    """One run of the pipeline: its steps, and its summary.

    Args:
        config: the composed configuration.
        job: Hydra's job.
        named: the W&B run to resume or the W&B sweep to join, if the environment names one.
        lock: makes the lock of a step, so that only one run executes it at a time.
    """

    def __init__(
        self, config: "DictConfig", job: Job, requested: RequestedRun, lock: Lock = FileLock
    ):
        self.config, self.recorded = config, references.recorded(config)
        self.started = datetime.now(UTC)
        started_with = dict(os.environ)  # before variables are set for MLflow
        self.folder, self.id, self.overrides = job.folder, job.id, job.overrides
        self.chosen = chosen_steps(config.main.steps, job.sweep or bool(requested.sweep))
        kind = tracking.choose(config.main.tracker)
        if requested.sweep and kind != "wandb":
            raise PipelineError(
                f"this is a run of W&B's sweep {requested.sweep}, and the tracker is {kind}",
                "log in to W&B on this machine, and set main.tracker=wandb in the sweep's command",
            )
        self.tracker = tracking.Tracker(kind, config.main.project_name)
        self.commit = origin.commit(ROOT)
        self.snapshot: snapshot.Snapshot | None = None
        self.results: dict[str, StepResult] = {}
        self.running: str | None = None
        self.trial = hydra_job.begin_trial(job)
        group = self.trial.sweep if self.trial else config.main.experiment_name
        self.notice = context.export(config, group, kind)
        hardening.close_state()
        step_context = context.step_context(self.id, job.overrides, self.commit)
        self.context = replace(
            step_context,
            experiment=config.main.experiment_name,
            data_set=job.choices.get("data", ""),
            model_name=job.choices.get("model", ""),
            trial=self.trial is not None or bool(requested.sweep),
        )
        self.backend = backends.choose(config, kind)
        settings.artifact_root()  # raises if it is no address
        self.screen = Screen(
            step_folders(), hydra_job.warning_reporter(job) if self.trial else None
        )
        self.tracked = TrackedRun(
            self.tracker, self.recorded, requested,
            trial=self.trial is not None, alert=config.main.alert, warn=self.screen.warn,
        )  # fmt: skip
        self.cache = Cache(settings.state_dir(), lock, self.screen.warn)
        self.reuse = Reuse(
            config.main, self.cache, self.tracker, self.trial,
            variables=started_with, lock=self._lock, warn=self.screen.warn,
        )  # fmt: skip
        self.workers = workers.trial_workers() if self.trial else workers.Workers()
        self.marker = processes.Marker(self.id)
        self.temporary = processes.Temporary(self.marker)
        self._until_end = contextlib.ExitStack()

    @cached_property
    def executor(self) -> "Executor":
        """The connection to MLflow, made when a step has to run or MLflow is queried."""
        gc.disable()  # imports leave no garbage
        from pipeline.orchestration.dead_runs import mark_dead
        from pipeline.orchestration.execution.mlflow_project import Executor

        gc.enable()
        self.temporary.begin()
        main = self.config.main
        executor = Executor(
            self.id, self.folder, main.experiment_name, main.env_manager, self.backend, self.marker,
            self.workers, self.tracked.prepare_end,
        )  # fmt: skip
        mark_dead()
        building = executor.build_ahead(self.chosen)
        if building and not self.trial:
            self.screen.note(
                f"building {len(building)} environments with {main.env_manager}, side by side: "
                "they are kept until a conda.yml changes"
            )
        for step in building:
            self.screen.building(step)
        return executor

    def __call__(self, step: str, **parameters: Any) -> StepResult:
        """Run a step: ``mlflow.projects.run`` with pinned inputs, caching and recording.

        Args:
            step: the step's folder.
            parameters: its parameters; ``result["name"]`` of an earlier step is an exact version.

        Returns:
            The result. A step that ran before with the same code, environment, parameters and
            inputs does not run again: its result is reused.

        Raises:
            PipelineError: the step failed; the message is the step's, or the end of its log.
        """
        values = {key: plain(value) for key, value in parameters.items()}
        if step in self.chosen:
            with self._attempt(step):
                result = self._reuse_or_run(step, values)
        else:
            _, current = self._look_up_state(step, values)
            result = self._skipped(step, current)
        self.results[step] = result
        self._show(result)
        return result

    def _look_up_state(self, step: str, values: Mapping[str, Any]) -> tuple[Parts, CurrentState]:
        """The parts of a step's cache key, and the state in which it would run."""
        parts = key_parts(step, values, self.tracker.store, self.backend.environment)
        return parts, self.reuse.current_state(step, parts)

    def _reuse_or_run(self, step: str, values: Mapping[str, Any]) -> StepResult:
        self.tracked.begin(self.context)
        values = {key: self._pinned(step, value) for key, value in values.items()}
        parts, current = self._look_up_state(step, values)
        with self._locked(step, current.key):
            if result := self.reuse.find(step, parts, current):
                return result
            self._begin_step(step)
            step_context = replace(
                self.context, key=current.key, variables=self.reuse.library_values
            )
            with self._time_limit(step):
                outcome = self.executor.run(step, values, step_context)
            _check_inputs(outcome.result, values)
            return self._finish_step(outcome, parts, current)

    def _lock(self, step: str) -> list[str]:
        """The lock of the step's packages; builds the step's environment if necessary."""
        env_manager = self.config.main.env_manager
        packages = workers.package_lock(ROOT / step, env_manager)
        if packages is None:
            self.executor.ensure_environment(step)
            packages = workers.package_lock(ROOT / step, env_manager)
        return packages or []

    def _pinned(self, step: str, value: Any) -> Any:
        """A parameter; an artifact without a version becomes its latest version.

        Raises:
            PipelineError: the artifact has no version yet.
        """
        if not isinstance(value, Reference) or value.has_version:
            return value
        name = value.partition(":")[0]
        latest = self.tracker.find(f"{name}:latest")
        if latest is None:
            raise PipelineError(
                f"{step} needs {name}, and the step that makes it is not in main.steps",
                f"no earlier run has made it either: choose that step too, or main.steps=all "
                f"(looked in: {self.tracker.store})",
            )
        self.screen.warn(f"{step} uses the latest {name}: {latest.version}")
        return Reference(latest.reference, latest.digest)

    def _show(self, result: StepResult) -> None:
        produced = "  ".join(f"{o['name']}:{o['version']}" for o in result.outputs)
        self.screen.ended(result.step, result.status, result.seconds, produced)
        for warning in result.warnings:
            self.screen.warn(warning)
        for note in result.notes:
            if note.get("warning"):
                if result.status == "ran" or not self.screen.quiet:  # trials share their data
                    self.screen.warn(note["text"])
            elif result.status == "ran":
                self.screen.note(note["text"])

    @contextlib.contextmanager
    def _locked(self, step: str, key: str) -> Iterator[None]:
        """Hold the step's lock, so that no other run executes it at the same time."""
        self.screen.state(step, "waiting")
        if self.trial and self.cache.is_running(step, key):
            # use the waiting time for the last step, which trials rarely share
            self._prepare(self.chosen[-1])
        with self.cache.lock(step, key):
            yield

    @contextlib.contextmanager
    def _attempt(self, step: str) -> Iterator[None]:
        """Record a step that fails or is stopped, also during its look-up."""
        self.running, started = step, time.monotonic()
        try:
            yield
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt)
            self.results[step] = StepResult(step, "killed" if killed else "failed")
            self.results[step].seconds = time.monotonic() - started
            self._show(self.results[step])
            raise
        self.running = None

    def _prepare(self, step: str) -> None:
        """Start the workers of a step that is about to run and of those after it."""
        self.temporary.begin()  # before a worker puts files into the folder
        if self.backend.name != backends.PREFORK:
            return
        index = self.chosen.index(step)
        folders = [ROOT / name for name in self.chosen[index : index + workers.AHEAD]]
        if not self.trial:
            self.workers.keep(folders)
        for folder in folders:
            self.workers.prepare(folder, self.config.main.env_manager)

    def _begin_step(self, step: str) -> None:
        self._prepare(step)  # while MLflow is imported
        if self.executor.parent is None:
            self._begin()
        self._prepare(step)
        if not self.backend.remote:
            self.executor.ensure_environment(step)
        self.screen.started(step, self.folder / f"{step}.log")

    def _finish_step(self, outcome: "Outcome", parts: Parts, current: CurrentState) -> StepResult:
        """Record a step's result on its MLflow run and in the cache."""
        result, changed = outcome.result, list(outcome.changed)
        step = result.step
        evidence = outcome.evidence or untraced_evidence(step, current)
        result.fingerprint = fingerprint(parts, evidence)
        if declared_files(step, self.backend.remote) != parts["declared"]:
            changed.append("MLproject or its inputs")
        self.executor.record(result)
        result.mlflow_files = self.executor.files(result)
        if changed:
            warning = f"{', '.join(changed)} changed while {step} ran; no other run will reuse it"
            result.warnings.append(warning)
        else:
            self.cache.put(Record(result, parts, evidence), current.key)
        return result

    @contextlib.contextmanager
    def _time_limit(self, step: str) -> Iterator[None]:
        """Stop a step after ``main.timeout`` seconds.

        Raises:
            PipelineError: the step ran out of time, and its processes were ended.
        """
        seconds = self.config.main.timeout
        if seconds is None:
            yield
            return
        try:
            with processes.limited(seconds) as late:
                yield
        except PipelineError as error:
            if not late.is_set():
                raise
            raise PipelineError(
                f"{step} ran out of time after {seconds:g} s (main.timeout)",
                f"raise the limit, such as main.timeout={2 * seconds:g}, or reduce the work",
            ) from error

    def _begin(self) -> None:
        """Begin the parent run in MLflow; in a sweep it is a child of the sweep's run."""
        self.snapshot = self._store_code()
        tags = {TRACKER_TAG: self.tracker.kind}
        if self.snapshot:
            tags |= self.snapshot.tags()
        if self.context.based_on:
            tags["pipeline.based_on"] = self.context.based_on
        if self.trial:
            tags |= self.trial.tags()
        executor = self.executor
        from pipeline.tracking.mlflow import parent_run

        parameters = parent_run.settings(self.recorded, self.overrides)
        parameters |= self.trial.parameters if self.trial else {}
        executor.start(summary.as_yaml(self.recorded), tags, self.commit, parameters)
        if self.trial:
            self.trial.mlflow_run = self.executor.parent
        summary.note_store()

    def _record_reuse(self) -> None:
        """Begin a run in an MLflow store that has no run of this checkout yet.

        All steps were reused, but the user chose a new store and expects to see the run there.
        """
        try:
            self._begin()
        except PipelineError as failure:
            self.screen.warn(failure.what)

    def _store_code(self) -> snapshot.Snapshot | None:
        """Store the code in git before the first step runs; None if that is impossible."""
        if not self.config.provenance.snapshot:
            return None
        message = f"run {self.id}\n\nThe code of a run of the pipeline, as it stood."
        state = [settings.state_dir(), settings.trackio_dir()]
        limit = self.config.provenance.max_file_mb
        try:
            code = snapshot.take(ROOT, self.id, message, limit, exclude=state)
        except GitError as error:
            self.screen.warn(f"this run's code is not kept in git: {error.what}")
            return None
        self.context = replace(
            self.context,
            snapshot=code.commit,
            snapshot_ref=code.ref,
            dirty=code.dirty,
            diff=code.diff,
        )
        return code

    def _skipped(self, step: str, current: CurrentState) -> StepResult:
        """The result of a step that is not in main.steps, from an earlier run.

        Prefers a result that matches the current state, else the latest one. After the last chosen
        step only a matching result is used, because no step reads it.
        """
        matching = result = self.cache.get(step, current)
        order = step_folders().index
        if result is None and order(step) < order(self.chosen[-1]):
            result = self.cache.latest(step, self.tracker.store)
        if matching is None:
            # later steps depend on other settings, too
            self.context = replace(self.context, overrides=None)
        if result is None:
            return StepResult(step, "skipped")
        result.status, result.seconds, result.warnings = "skipped", None, []
        if matching is None:
            result.warnings = [f"{step} is not chosen; using what run {result.pipeline_run} made"]
        return result

    def _open(self) -> None:
        """Start the display, and show notices."""
        self.screen.__enter__()
        if self.cache.notice:
            self.screen.warn(self.cache.notice)
        if not self.trial:
            for notice in filter(None, (tracking.notice(self.config.main.tracker), self.notice)):
                self.screen.warn(notice)
        self.tracker.prepare()

    def __enter__(self) -> Self:
        self.marker.hold()
        self._open()
        summary.keep_config(self.folder, self.recorded, self.overrides)
        self._until_end.enter_context(mlflow_retries.announce_retries(self.screen.warn))
        try:
            if self.trial and not self.trial.done:
                self._begin()
            elif any(processes.killed_runs()):
                _ = self.executor  # cleans up after them
        except BaseException:
            self.temporary.end()
            self._until_end.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.screen.__exit__()
        if self.trial:
            self._keep_workers()
        else:
            self.workers.close()
        status = "FINISHED"
        if kind is not None:
            status = "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        recorded = False
        if kind is None and summary.is_new_store():
            self._record_reuse()
        try:
            self._record(status, error)
            recorded = True
        except PipelineError as failure:
            if error is None:
                error = failure
                raise
            self.screen.warn(failure.what)  # the first error is reported instead
        finally:
            self._until_end.close()
            try:
                self._track(error)
            finally:
                self.temporary.end(recorded, status)
        if kind is None and not self.trial:
            self._show_result()
        elif status == "KILLED":
            self.screen.console.print(f"interrupted in {self.running}; run again to continue")
        self.screen.close()

    def _keep_workers(self) -> None:
        """Keep only the workers of the steps that ran, which the next trial will use."""
        ran = {ROOT / name for name, result in self.results.items() if result.status == "ran"}
        if ran:
            self.workers.keep(ran)

    def _show_result(self) -> None:
        print_result(self.screen.console, self.results.values(), self.metrics, self._hints())

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the model, else of the last step that has some."""
        measured = [result for result in self.results.values() if result.metrics]
        models = [r for r in measured if any(output["type"] == "model" for output in r.outputs)]
        return (models or measured)[-1].metrics if measured else {}

    def _hints(self) -> list[str]:
        last = list(self.results.values())[-1:]
        report = ["report: make report"] if last and last[0].outputs else []
        urls = [result.tracker_url for result in self.results.values() if result.tracker_url]
        page = [f"its page: {self.tracked.url}"] if self.tracked.url else []
        store = os.environ.get(settings.MLFLOW_URI, "")
        if settings.sqlite_path(store) or store.startswith(("/", "file:")):
            page.append(f"in MLflow: mlflow ui --backend-store-uri {shlex.quote(store)}")
        where = self.tracker.dashboard(urls)
        return [f"run {self.id}: {self.folder}", *page, *report, where]

    def _record(self, status: str, error: BaseException | None) -> None:
        """Write ``summary.json`` to the run's folder and, if there is one, to its MLflow run."""
        parent = self.executor.parent if "executor" in self.__dict__ else None
        content = {
            "run_id": self.id,
            "status": status.lower(),
            "started": self.started.isoformat(),
            "developer": origin.developer(),
            "tracker": self.tracker.kind,
            "project": self.config.main.project_name,
            "experiment": self.config.main.experiment_name,
            "mlflow_run": parent,
            "sweep": self.trial.sweep if self.trial else None,
            "git_commit": self.commit.sha if self.commit else None,
            "git_dirty": self.commit.dirty if self.commit else None,
            "steps": {name: vars(result) for name, result in self.results.items()},
            "metrics": self.metrics,
            "config": self.recorded,
            "snapshot": vars(self.snapshot) if self.snapshot else None,
            "based_on": self.context.based_on or None,
        }
        try:
            content = summary.write(self.folder, content)
        finally:  # end the MLflow run even if the disk is full
            if parent:
                self._end(status, json.dumps(content, indent=2), error)

    def _track(self, error: BaseException | None) -> None:
        """End the run in the tracker."""
        parent = self.executor.parent if "executor" in self.__dict__ else None
        self.tracked.end(self.context, self.results, self.metrics, parent, error)

    def _end(self, status: str, content: str, error: BaseException | None) -> None:
        """End the run in MLflow; after an error without retries, so as not to wait for a server."""
        with mlflow_retries.without_retries() if error else contextlib.nullcontext():
            data_set = self.config.main.dataset
            self.executor.end(status, self.metrics, content, error, self.results, data_set)


def _check_inputs(result: StepResult, values: Mapping[str, Any]) -> None:
    """Refuse the result of a step whose inputs had other digests than expected.

    Raises:
        PipelineError: an artifact version in the tracker has changed.
    """
    digests = {f"{used['name']}:{used['version']}": used["digest"] for used in result.inputs}
    for value in values.values():
        if isinstance(value, Reference) and digests.get(value, value.digest) != value.digest:
            raise PipelineError(
                f"{result.step} was to use {value} with digest {value.digest[:12]}, and the "
                f"tracker's {value} has {digests[value][:12]}",
                "the tracker was changed during the run; main.force=true runs all steps again",
            )
