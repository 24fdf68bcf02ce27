"""The Hydra callback that records a sweep: a group in the tracker, and nested runs in MLflow.

Hydra creates a :class:`Sweep` from ``hydra.callbacks`` and calls it at the start and the end of a
sweep and of each trial. A trial may be in another process or on another machine; it gets the
sweep's context through ``hydra.job.env_set`` of its configuration. In a single run the callback
does nothing, and MLflow is not imported.
"""

import atexit
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from pipeline import tracking
from pipeline.config import job, overrides, references
from pipeline.config.checks import check_measuring
from pipeline.core import databases, settings, variables
from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest, read_record, write_whole
from pipeline.core.metrics import lower_is_better
from pipeline.core.security import hardening
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.core.tracing import dependencies
from pipeline.orchestration import context
from pipeline.orchestration.execution import backends, processes, workers
from pipeline.provenance import origin
from pipeline.steps.folders import chosen_steps, step_files, step_folders
from pipeline.sweeps import progress, ray_check

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from pipeline.sweeps.record import TrialRecord

# Settings of how a sweep is executed; a resumed sweep may change them.
EXECUTION = ("hydra/launcher", "hydra.launcher", "hydra.sweep.", "hydra.run.", "hydra.verbose")
EXECUTION += tuple(f"hydra.sweeper.{name}" for name in ("n_trials", "n_jobs", "storage"))

# Settings that decide how trials are measured.
DECIDE_MEASURING = ("model", "model.validation", "model.cv")


class Sweep(Callback):
    """Records a sweep and its trials, resumes an interrupted sweep, and summarizes it.

    Attributes:
        id: the sweep's id.
        run: the id of its run in MLflow.
        missing: how many finished trials Optuna still lacks; None in a grid.
    """

    def __init__(self) -> None:
        self.id = self.run = ""
        self.missing: int | None = None
        self.folder = Path()
        self._total = 1
        self._watch: progress.Watch | None = None
        self._marker: processes.Marker | None = None
        self._temporary: processes.Temporary | None = None
        self._fixed: set[str] = set()
        self._started_with: dict[str, str] = {}
        self._trial_started = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """State for a trial in another process, which writes events but does not display them."""
        return {**vars(self), "_watch": None}

    def report(self, **event: Any) -> None:
        """Report an event of a trial."""
        job.report_event(self.folder, **event)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Start the sweep's run in MLflow, or resume an interrupted one."""
        references.protect_sweep(config)  # before Hydra writes it to multirun.yaml
        if config.main.explain:
            return
        self._started_with = dict(os.environ)  # before variables are set for MLflow
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._clean_up)
            try:
                self._check(config)
                self._begin(config)
            except PipelineError as error:
                raise SystemExit(1) from error  # Hydra would turn other errors into warnings
            except Exception as error:
                raise SystemExit(1) from _unexpected("the sweep could not be started", error)
            on_failure.pop_all()
        atexit.register(self._interrupt)

    def _check(self, config: DictConfig) -> None:
        HydraConfig.instance().set_config(config)
        typed = OverridesParser.create().parse_overrides(
            job.raw_overrides(config.hydra.overrides.task)
        )
        fixed = [override for override in typed if not override.is_sweep_override()]
        self._fixed = {override.key_or_group for override in fixed}
        swept = {override.key_or_group for override in typed if override.is_sweep_override()}
        swept |= set(config.hydra.sweeper.get("params") or {})
        same_for_all = swept.isdisjoint(DECIDE_MEASURING)  # else each trial checks it
        check_measuring(config, sweep=same_for_all)
        needs = {"optuna": config.hydra.sweeper._target_, "ray": config.hydra.launcher._target_}
        for package, target in needs.items():
            if package in target.lower() and not importlib.util.find_spec(package):
                raise PipelineError(f"{package} is not installed", "install it: make extras")
        for name in ("n_trials", "n_jobs"):  # Optuna's
            count = config.hydra.sweeper.get(name, 1)
            if not isinstance(count, int) or count < 1:
                raise PipelineError(
                    f"hydra.sweeper.{name}={count} is not a number of trials", "give 1 or more"
                )
        self._total = count_trials(typed, config.hydra.sweeper)
        kind = tracking.choose(config.main.tracker)
        if notice := tracking.notice(config.main.tracker):
            print(f"warning: {notice}", file=sys.stderr)
        self._tracker = tracking.Tracker(kind, config.main.project_name)
        if "Ray" in config.hydra.launcher._target_:
            ray_check.check(kind, config.hydra.launcher)

    def _begin(self, config: DictConfig) -> None:
        state = Path(config.main.state_dir).absolute()
        sweep_folder = Path(config.hydra.sweep.dir).absolute()
        file = state / "sweeps" / f"{identity(config)}.json"
        stored = read_record(file, "id", "folder", "mlflow_run", "unfinished")
        self.id, self.folder, self._file = sweep_folder.name, sweep_folder, file
        commit = origin.commit(ROOT)
        context.export(config, self.id, self._tracker.kind)
        hardening.close_state()
        variables.set_defaults({"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"})
        if stored and (not stored["unfinished"] or processes.Marker(stored["id"]).is_alive()):
            stored = None  # it ended, or another process is at it
        if stored:
            self.id, self.folder = stored["id"], Path(stored["folder"])
            context.export(config, self.id, self._tracker.kind)
        marker = self._marker = processes.Marker(self.id)
        if not stored:
            self._prepare(config, marker)

        from pipeline.sweeps import record as sweep_record

        finished_trials = []
        if stored:
            self.run = stored["mlflow_run"]
            finished_trials = sweep_record.resume(self._marker, self.run)
            say(f"sweep {self.id} is resumed: {len(finished_trials)} of its trials are finished")
            self._prepare(config, marker)  # after the killed process's temporary files are removed
        else:
            self.run = sweep_record.begin(config, self._marker, commit)
            say(f"sweep {self.id}")
        self._save(unfinished=True)
        self._configure_trials(config, finished_trials)
        minimized = lower_is_better(config.search.metric or "")
        self._watch = progress.Watch(self.folder, self._total, minimized)

    def _prepare(self, config: DictConfig, marker: processes.Marker) -> None:
        """Make a temporary folder, and start the last step's worker for all local trials."""
        self._temporary = processes.Temporary(marker)
        self._temporary.begin()
        self._tracker.prepare()
        is_local = "Ray" not in config.hydra.launcher._target_
        if config.main.backend == backends.PREFORK and is_local:
            last_step = chosen_steps(config.main.steps, sweep=True)[-1]
            workers.trial_workers().prepare(ROOT / last_step, config.main.env_manager)

    def _clean_up(self, recorded: bool = True, status: str = "FINISHED") -> None:
        self._end_watch()
        workers.trial_workers().close()
        if self._temporary:
            self._temporary.end(recorded, status)

    def _end_watch(self) -> None:
        if self._watch:
            self._watch.close()

    def _save(self, unfinished: bool) -> None:
        """Write the file from which a later start resumes this sweep."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        stored = {"id": self.id, "folder": str(self.folder), "mlflow_run": self.run}
        write_whole(self._file, json.dumps(stored | {"unfinished": unfinished}))

    def _configure_trials(self, config: DictConfig, finished_trials: list[int]) -> None:
        """Add the sweep's context and folder to the overrides of all trials."""
        libraries = dependencies.library_variables(os.environ)
        sweep_context = job.SweepContext(self.id, self.run, finished_trials, libraries)
        shared = workers.trial_workers().folder or os.environ.get(settings.WORKERS, "")
        environment = {
            job.SWEEP_VARIABLE: sweep_context.to_json(),
            settings.WORKERS: str(shared),
        }
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = str(self.folder)
            config.hydra.job.env_set.update(environment)
            config.hydra.hydra_logging.root.level = "WARNING"  # the sweep prints its own lines
            added = {f"+hydra.job.env_set.{name}": value for name, value in environment.items()}
            for key, value in {"hydra.sweep.dir": str(self.folder), **added}.items():
                config.hydra.overrides.hydra.append(f"{key}={overrides.quoted(value)}")

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Report the start of a trial."""
        self._trial_started = time.monotonic()
        if config.hydra.mode is RunMode.MULTIRUN and not config.main.explain:
            self.report(kind="begun", trial=config.hydra.job.num)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Report the end of a trial; a failed trial does not end the others."""
        if config.hydra.mode is not RunMode.MULTIRUN or config.main.explain:
            return
        sweep = job.SweepContext.of(config.hydra.job.env_set)
        if sweep is None:
            return  # the sweep failed its checks
        number, trial_overrides = config.hydra.job.num, [*(job_return.overrides or ())]
        value = job_return._return_value  # noqa: SLF001 - Hydra's public one raises the job's error
        if isinstance(value, KeyboardInterrupt | SystemExit):
            return  # Hydra 1.4 calls it after an interruption, too
        duration = f"in {time.monotonic() - self._trial_started:.1f} s"
        parameters = job.parameters(trial_overrides)
        searched = " ".join(f"{k}={v}" for k, v in parameters.items() if k not in self._fixed)
        trial = job.current_trial(sweep.id, number) or sweep.trial(number, trial_overrides)
        if job_return.status is JobStatus.COMPLETED:
            if trial.mlflow_run:
                _record().log_objective(trial.mlflow_run, value)
            self.report(kind="ended", trial=number, given=searched, value=value, took=duration)
            return
        failure = {"error": _in_one_line(value), "value": None}
        self.report(kind="ended", trial=number, given=searched, took=duration, **failure)
        if not isinstance(value, PipelineError):
            log = Path(config.hydra.runtime.output_dir, "error.log")
            log.write_text("".join(traceback.format_exception(value)), encoding="utf-8")
        if not trial.mlflow_run:
            _record().record_refused(trial, value)
        job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Summarize the sweep: print the table, log the figures, end its MLflow run."""
        if not self.run or sys.exc_info()[0]:  # Hydra 1.4 calls it after an error or Ctrl-C, too
            return
        from pipeline.sweeps import summary as sweep_summary

        self._end_watch()
        try:
            trials = _record().end(self.run)
            failed = any(trial.state != "FINISHED" for trial in trials)
            self._save(unfinished=failed if self.missing is None else self.missing > 0)
            atexit.unregister(self._interrupt)
            try:
                sweep_summary.show(trials, config, self.id, self.folder)
                sweep_summary.log(trials, config, self.id, self.run, self.folder, self._tracker)
                if config.search.refit:
                    self._refit(sweep_summary.ranked(trials, config), config)
            finally:
                self._clean_up(status="FAILED" if failed else "FINISHED")
            self._raise_if_failed(trials)
        except PipelineError as error:
            raise SystemExit(1) from error
        except Exception as error:  # Hydra would turn it into a warning
            raise SystemExit(1) from _unexpected("the sweep could not be summarized", error)

    def refuse(
        self, config: DictConfig, number: int, trial_overrides: list[str], error: PipelineError
    ) -> None:
        """Report and record a trial whose configuration can't be composed."""
        trial_config = config.copy()
        with read_write(trial_config.hydra):
            trial_config.hydra.job.num = number
        self.on_job_start(trial_config)
        failed = JobReturn(trial_overrides, status=JobStatus.FAILED, _return_value=error)
        self.on_job_end(trial_config, failed)

    def _refit(self, best: "Sequence[TrialRecord]", config: DictConfig) -> None:
        """Train the best trial's model on all training rows; it becomes the candidate."""
        from pipeline.sweeps import refit

        if best:
            refit.refit(
                best[0],
                refit.summary.measured(best, config),
                sweep=self.id,
                mlflow_run=self.run,
                runs=self.folder.parent,
                tracker=self._tracker,
                variables=self._started_with,
            )

    def _raise_if_failed(self, trials: "Sequence[TrialRecord]") -> None:
        """Fail if trials failed, unless Optuna ran other trials in their place.

        Raises:
            PipelineError: With the number of failed trials and the first error.
        """
        failed = [trial for trial in trials if trial.state != "FINISHED"]
        count = f"{len(failed)} of {len(trials)} trials failed"
        if failed and self.missing == 0:
            say(f"{count}; others were run in their place", flush=True)
        elif failed:
            reason = failed[0].error.partition("\n")[0] or "error.log in its folder says why"
            raise PipelineError(
                f"{count}; trial {failed[0].number}: {reason}",
                "the other trials are recorded; the same command "
                + ("retries the failed trials" if self.missing is None else "proposes new trials"),
            )
        elif self.missing:
            raise PipelineError(
                "no trial has a metric to compare trials by",
                "include the step that trains the model in main.steps",
            )

    def _interrupt(self) -> None:
        """Record the sweep as interrupted when the program ends before it."""
        processes.end_children()  # a step that just begins would set its run to RUNNING again
        recorded = False
        with contextlib.suppress(Exception):  # if a server failed, a later start cleans up
            _record().mark_interrupted(self.run)
            recorded = True
        self._clean_up(recorded, "KILLED")
        say(f"sweep {self.id} was interrupted; the same command resumes it", file=sys.stderr)


def sweep_among(callbacks: Callbacks) -> Sweep:
    """The :class:`Sweep` among Hydra's callbacks."""
    return next(callback for callback in callbacks.callbacks if isinstance(callback, Sweep))


def _record() -> Any:
    from pipeline.sweeps import record as sweep_record

    return sweep_record


def _unexpected(problem: str, error: Exception) -> PipelineError:
    """The PipelineError for a failure outside trials, with a remedy for files and databases."""
    failure = databases.as_pipeline_error(error) or PipelineError(
        f"{problem}: {type(error).__name__}: {error}", "HYDRA_FULL_ERROR=1 shows where"
    )
    failure.__cause__ = error
    return failure


def count_trials(typed: "Sequence[Override]", sweeper: DictConfig) -> int:
    """Number of trials of the sweep, not counting trials that replace failed ones."""
    if "n_trials" in sweeper:
        return int(sweeper.n_trials)
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    all_overrides = [*typed, *OverridesParser.create().parse_overrides(params)]
    swept = [override for override in all_overrides if override.is_sweep_override()]
    last = {override.key_or_group: override for override in swept}
    return math.prod(len([*override.sweep_string_iterator()]) for override in last.values())


def _in_one_line(error: Any) -> str:
    """An error in one line."""
    if isinstance(error, PipelineError):
        return error.what.partition("\n")[0]
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def identity(config: DictConfig) -> str:
    """Digest of the search, the configuration and the code; a start with the same digest resumes.

    Overrides of ``EXECUTION`` do not count.
    """
    typed = job.raw_overrides(config.hydra.overrides.task) + job.raw_overrides(
        config.hydra.overrides.hydra
    )
    relevant = sorted(word for word in typed if not word.lstrip("+~").startswith(EXECUTION))
    settings_only = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    files = [ROOT / "main.py", *sorted((ROOT / "pipeline").rglob("*.py"))]
    for step in step_folders():
        files += step_files(ROOT / step)
    parts = [relevant, OmegaConf.to_container(settings_only), [file_digest(path) for path in files]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
