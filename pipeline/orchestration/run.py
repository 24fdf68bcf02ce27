"""The orchestrator: which steps run, on what, and what is handed on from before.

MLflow is imported when the first step has to be run, and not before: a run in which nothing has
to be done only reads a few small files.
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
from pipeline.cache.compare import CurrentState, Parts, declared, key_parts, unrecorded
from pipeline.cache.finished import Cache, Lock, Record, fingerprint
from pipeline.config import job as hydra_job
from pipeline.config import references
from pipeline.config.job import Job
from pipeline.config.schema import plain
from pipeline.core import hardening, settings
from pipeline.core.errors import PipelineError
from pipeline.core.results import TRACKER_TAG, Reference, StepResult
from pipeline.core.settings import ROOT
from pipeline.orchestration import context, summary
from pipeline.orchestration.execution import backends, processes, workers
from pipeline.orchestration.reuse import Reuse
from pipeline.orchestration.terminal import Screen, print_result
from pipeline.orchestration.tracked import TrackedRun
from pipeline.provenance import origin, snapshot
from pipeline.provenance.git import GitError
from pipeline.steps.folders import chosen_steps, step_folders
from pipeline.tracking import Named
from pipeline.tracking.mlflow import retries as mlflow_retries

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipeline.orchestration.execution.mlflow_project import Executor, Outcome


class Pipeline:
    """One run of the pipeline: its steps, and its summary.

    Args:
        config: the composed configuration.
        job: what Hydra runs.
        named: the run in W&B that it has to be.
        lock: keeps other runs from running the same step at the same time.
    """

    def __init__(self, config: "DictConfig", job: Job, named: Named, lock: Lock = FileLock):
        self.config, self.recorded = config, references.recorded(config)
        self.started = datetime.now(UTC)
        started_with = dict(os.environ)  # before any of it is set for MLflow
        self.folder, self.id, self.overrides = job.folder, job.id, job.overrides
        self.chosen = chosen_steps(config.main.steps, job.sweep or bool(named.sweep))
        kind = tracking.choose(config.main.tracker)
        if named.sweep and kind != "wandb":
            raise PipelineError(
                f"this is a run of W&B's sweep {named.sweep}, and the tracker is {kind}",
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
        known = context.step_context(self.id, job.overrides, self.commit)
        self.context = replace(
            known,
            experiment=config.main.experiment_name,
            data_set=job.choices.get("data", ""),
            model_name=job.choices.get("model", ""),
            trial=self.trial is not None or bool(named.sweep),
        )
        self.backend = backends.choose(config, kind)
        settings.artifact_root()  # refuses what is no address
        self.screen = Screen(
            step_folders(), hydra_job.warning_reporter(job) if self.trial else None
        )
        self.tracked = TrackedRun(
            self.tracker, self.recorded, named,
            trial=self.trial is not None, alert=config.main.alert, warn=self.screen.warn,
        )  # fmt: skip
        self.cache = Cache(settings.state_dir(), lock, self.screen.warn)
        self.reuse = Reuse(
            config.main, self.cache, self.tracker, self.trial,
            variables=started_with, lock=self._lock, warn=self.screen.warn,
        )  # fmt: skip
        self.workers = workers.of_trials() if self.trial else workers.Workers()
        self.marker = processes.Marker(self.id)
        self.temporary = processes.Temporary(self.marker)
        self._until_end = contextlib.ExitStack()

    @cached_property
    def executor(self) -> "Executor":
        """MLflow, connected; asked for only when something has to be run or looked up there."""
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
        """Run a step: ``mlflow.projects.run`` plus pinned inputs, caching and recording.

        Args:
            step: the step's folder.
            parameters: its parameters; ``result["name"]`` of an earlier step is an exact version.

        Returns:
            What it produced. A step that ran before with the same code, environment, parameters
            and inputs is not run again: its result is reused.

        Raises:
            PipelineError: the step failed; the message is its own, or the end of its log.
        """
        values = {key: plain(value) for key, value in parameters.items()}
        if step in self.chosen:
            with self._attempt(step):
                result = self._reuse_or_run(step, values)
        else:
            _, present = self._known(step, values)
            result = self._skipped(step, present)
        self.results[step] = result
        self._show(result)
        return result

    def _known(self, step: str, values: Mapping[str, Any]) -> tuple[Parts, CurrentState]:
        """What is known of a step before it runs, and what it would meet now."""
        found = key_parts(step, values, self.tracker.store, self.backend.environment)
        return found, self.reuse.current_state(step, found)

    def _reuse_or_run(self, step: str, values: Mapping[str, Any]) -> StepResult:
        self.tracked.begin(self.context)
        values = {key: self._pinned(step, value) for key, value in values.items()}
        found, present = self._known(step, values)
        with self._alone(step, present.key):
            if result := self.reuse.find(step, found, present):
                return result
            self._begin_step(step)
            told = replace(self.context, key=present.key, variables=self.reuse.by_libraries)
            with self._time_limit(step):
                ran = self.executor.run(step, values, told)
            _check_inputs(ran.result, values)
            return self._finish_step(ran, found, present)

    def _lock(self, step: str) -> list[str]:
        """The packages that the step would run with; its environment is built to learn of them."""
        env_manager = self.config.main.env_manager
        found = workers.lock(ROOT / step, env_manager)
        if found is None:
            self.executor.ensure_environment(step)
            found = workers.lock(ROOT / step, env_manager)
        return found or []

    def _pinned(self, step: str, value: Any) -> Any:
        """An input that no step of this run names: its latest version as it is now.

        Raises:
            PipelineError: there is none.
        """
        if not isinstance(value, Reference) or value.has_version:
            return value
        name = value.partition(":")[0]
        found = self.tracker.find(f"{name}:latest")
        if found is None:
            raise PipelineError(
                f"{step} needs {name}, and the step that makes it is not in main.steps",
                f"no earlier run has made it either: choose that step too, or main.steps=all "
                f"(looked in: {self.tracker.store})",
            )
        self.screen.warn(f"{step} uses the latest {name}: {found.version}")
        return Reference(found.reference, found.digest)

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
    def _alone(self, step: str, key: str) -> Iterator[None]:
        """Keep other pipelines from running the same step at the same time."""
        self.screen.state(step, "waiting")
        if self.trial and self.cache.is_running(step, key):
            self._prepare(self.chosen[-1])  # that one is the trial's own, and there is time now
        with self.cache.lock(step, key):
            yield

    @contextlib.contextmanager
    def _attempt(self, step: str) -> Iterator[None]:
        """Record a step that fails or is stopped, be it while it is looked up."""
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
        """Start the workers of a step that is about to run and of the next one."""
        self.temporary.begin()  # before anything is put into it
        if self.backend.name != backends.PREFORK:
            return
        place = self.chosen.index(step)
        coming = [ROOT / name for name in self.chosen[place : place + 2]]
        if not self.trial:
            self.workers.keep(coming)
        for folder in coming:
            self.workers.prepare(folder, self.config.main.env_manager)

    def _begin_step(self, step: str) -> None:
        self._prepare(step)  # while MLflow is imported
        if self.executor.parent is None:
            self._begin()
        self._prepare(step)
        if not self.backend.remote:
            self.executor.ensure_environment(step)
        self.screen.started(step, self.folder / f"{step}.log")

    def _finish_step(self, ran: "Outcome", found: Parts, present: CurrentState) -> StepResult:
        """Record what a step came to, for its MLflow run and for runs to come."""
        result, changed = ran.result, list(ran.changed)
        step = result.step
        seen = ran.evidence or unrecorded(step, present)
        result.fingerprint = fingerprint(found, seen)
        if declared(step, self.backend.remote) != found["declared"]:
            changed.append("MLproject or its inputs")
        self.executor.record(result)
        result.mlflow_files = self.executor.files(result)
        if changed:
            told = f"{', '.join(changed)} changed while {step} ran; no other run will reuse it"
            result.warnings.append(told)
        else:
            self.cache.put(Record(result, found, seen), present.key)
        return result

    @contextlib.contextmanager
    def _time_limit(self, step: str) -> Iterator[None]:
        """Stop a step after ``main.timeout`` seconds.

        Raises:
            PipelineError: it ran out of time; its processes are gone.
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
                f"give it more, or less to do: main.timeout={2 * seconds:g}",
            ) from error

    def _begin(self) -> None:
        """Begin the run in MLflow that the steps go below; in a sweep it belongs to the sweep's."""
        self.snapshot = self._keep_code()
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
        """Begin a run in a store of MLflow's that has none of this checkout's yet.

        All steps were reused, and the user has named the store to see them there.
        """
        try:
            self._begin()
        except PipelineError as failure:
            self.screen.warn(failure.what)

    def _keep_code(self) -> snapshot.Snapshot | None:
        """Keep the code in git, because a step is about to run; None where that can't be done."""
        if not self.config.provenance.snapshot:
            return None
        message = f"run {self.id}\n\nThe code of a run of the pipeline, as it stood."
        state = [settings.state_dir(), settings.trackio_dir()]
        limit = self.config.provenance.max_file_mb
        try:
            taken = snapshot.take(ROOT, self.id, message, limit, exclude=state)
        except GitError as error:
            self.screen.warn(f"this run's code is not kept in git: {error.what}")
            return None
        self.context = replace(
            self.context,
            snapshot=taken.commit,
            snapshot_ref=taken.ref,
            dirty=taken.dirty,
            diff=taken.diff,
        )
        return taken

    def _skipped(self, step: str, present: CurrentState) -> StepResult:
        """A step that was not chosen: its outputs as they are, from the run that fits best.

        Nobody reads what comes after the last chosen step, so there only what fits is handed on.
        """
        fitting = result = self.cache.get(step, present)
        order = step_folders().index
        if result is None and order(step) < order(self.chosen[-1]):
            result = self.cache.latest(step, self.tracker.store)
        if fitting is None:
            # what follows comes from other settings too
            self.context = replace(self.context, overrides=None)
        if result is None:
            return StepResult(step, "skipped")
        result.status, result.seconds, result.warnings = "skipped", None, []
        if fitting is None:
            result.warnings = [f"{step} is not chosen; using what run {result.pipeline_run} made"]
        return result

    def _open(self) -> None:
        """Begin to show what happens."""
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
        self._until_end.enter_context(mlflow_retries.announced(self.screen.warn))
        try:
            if self.trial and not self.trial.done:
                self._begin()
            elif any(processes.killed_runs()):
                _ = self.executor  # which tidies up after them
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
            self.screen.warn(failure.what)  # what came first is told as the error
        finally:
            self._until_end.close()
            try:
                self._track(error)
            finally:
                self.temporary.end(recorded, interrupted=status == "KILLED")
        if kind is None and not self.trial:
            self._show_result()
        elif status == "KILLED":
            self.screen.console.print(f"interrupted in {self.running}; run again to continue")
        self.screen.close()

    def _keep_workers(self) -> None:
        """Keep what the next trial will use: what this one has, unless it has run nothing."""
        ran = {ROOT / name for name, result in self.results.items() if result.status == "ran"}
        if ran:
            self.workers.keep(ran)

    def _show_result(self) -> None:
        print_result(self.screen.console, self.results.values(), self.metrics, self._hints())

    @property
    def metrics(self) -> dict[str, float]:
        """The model's metrics, or without a model the last step's."""
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
        """``summary.json``, in the run's folder and on its MLflow run if it has one."""
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
        finally:  # a full disk here must not leave a run in MLflow that never ends
            if parent:
                self._end(status, json.dumps(content, indent=2), error)

    def _track(self, error: BaseException | None) -> None:
        """End the run in the tracker."""
        parent = self.executor.parent if "executor" in self.__dict__ else None
        self.tracked.end(self.context, self.results, self.metrics, parent, error)

    def _end(self, status: str, content: str, error: BaseException | None) -> None:
        """End the run in MLflow, whose server is not waited for if something has failed."""
        with mlflow_retries.once() if error else contextlib.nullcontext():
            data_set = self.config.main.dataset
            self.executor.end(status, self.metrics, content, error, self.results, data_set)


def _check_inputs(result: StepResult, values: Mapping[str, Any]) -> None:
    """Refuse what a step made of other data than it was meant to have.

    Raises:
        PipelineError: a version in the tracker is not the one of that name any more.
    """
    digests = {f"{used['name']}:{used['version']}": used["digest"] for used in result.inputs}
    for value in values.values():
        if isinstance(value, Reference) and digests.get(value, value.digest) != value.digest:
            raise PipelineError(
                f"{result.step} was to use {value} with digest {value.digest[:12]}, and the "
                f"tracker's {value} has {digests[value][:12]}",
                "the tracker was changed meanwhile; main.force=true makes all of it anew",
            )
