"""A sweep: trials as one group in the tracker and one run in MLflow, with the trials below it.

Hydra makes a :class:`Sweep` from ``hydra.callbacks`` in config.yaml and calls it at both ends of a
sweep and of each trial; a trial may be in another process, or on another machine. What a trial has
to know travels in its configuration, as ``hydra.job.env_set``. In a single run all this does
nothing, and MLflow is not imported.
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
from collections.abc import Callable, Sequence
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
from pipeline.core import databases, dependencies, hardening, settings, variables
from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest, read_record, write_whole
from pipeline.core.metrics import lower_is_better
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.orchestration import context
from pipeline.orchestration.execution import backends, processes, workers
from pipeline.provenance import origin
from pipeline.steps.folders import chosen_steps, step_files, step_folders
from pipeline.sweeps import progress, ray_check

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from pipeline.sweeps.record import TrialRecord

# These say how a sweep is carried out, not what it is: another start may change them.
MEANS = ("hydra/launcher", "hydra.launcher", "hydra.sweep.", "hydra.run.", "hydra.verbose")
MEANS += tuple(f"hydra.sweeper.{name}" for name in ("n_trials", "n_jobs", "storage"))

# These say how trials are measured.
DECIDE_MEASURING = ("model", "model.validation", "model.cv")


class Sweep(Callback):
    """Records a sweep and its trials, takes an interrupted one up again, and sums it up.

    Attributes:
        id: the sweep's id.
        run: its run in MLflow.
        missing: the finished trials that Optuna still wants; None in a grid.
        report: takes in what happens to a trial.
    """

    def __init__(self) -> None:
        self.id = self.run = ""
        self.missing: int | None = None
        self.report: Callable[..., None] = self._write_event
        self.folder = Path()
        self._total = 1
        self._watch: progress.Watch | None = None
        self._marker: processes.Marker | None = None
        self._temporary: processes.Temporary | None = None
        self._fixed: set[str] = set()
        self._started_with: dict[str, str] = {}
        self._trial_started = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """As a trial in another process gets it: it writes, and does not watch."""
        return {**vars(self), "_watch": None}

    def _write_event(self, **event: Any) -> None:
        job.report_event(self.folder, **event)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Begin the sweep's run in MLflow, or go on with that of an earlier start."""
        references.protect(config)  # before Hydra keeps it, as multirun.yaml
        if config.main.explain:
            return
        self._started_with = dict(os.environ)  # before any of it is set for MLflow
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._tidy)
            try:
                self._check(config)
                self._begin(config)
            except PipelineError as error:
                raise SystemExit(1) from error  # past Hydra, which would make it a warning
            except Exception as error:
                raise SystemExit(1) from _unexpected("the sweep could not be begun", error)
            on_failure.pop_all()
        atexit.register(self._cut_off)

    def _check(self, config: DictConfig) -> None:
        HydraConfig.instance().set_config(config)
        typed = OverridesParser.create().parse_overrides(
            job.raw_overrides(config.hydra.overrides.task)
        )
        self._fixed = {one.key_or_group for one in typed if not one.is_sweep_override()}
        swept = {one.key_or_group for one in typed if one.is_sweep_override()}
        params = config.hydra.sweeper.get("params") or {}
        swept |= set(params)
        fixed = swept.isdisjoint(DECIDE_MEASURING)  # else each trial is checked by itself
        check_measuring(config, sweep=fixed)
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
        folder = Path(config.hydra.sweep.dir).absolute()
        file = state / "sweeps" / f"{identity(config)}.json"
        known = read_record(file, "id", "folder", "mlflow_run", "unfinished")
        self.id, self.folder, self._file = folder.name, folder, file
        commit = origin.commit(ROOT)
        context.export(config, self.id, self._tracker.kind)
        hardening.close_state()
        variables.set_defaults({"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"})
        interrupted = known and known["unfinished"] and not processes.Marker(known["id"]).is_alive()
        if interrupted:
            self.id, self.folder = known["id"], Path(known["folder"])
            context.export(config, self.id, self._tracker.kind)
        self._marker = processes.Marker(self.id)
        if not interrupted:
            self._prepare(config)

        from pipeline.sweeps import record as sweep_record

        done = []
        if interrupted:
            self.run = known["mlflow_run"]
            done = sweep_record.resume(self._marker, self.run)
            say(f"sweep {self.id} goes on: {len(done)} of its trials are finished")
            self._prepare(config)  # now that what the killed process has left is gone
        else:
            self.run = sweep_record.begin(config, self._marker, commit)
            say(f"sweep {self.id}")
        self._write(unfinished=True)
        self._tell_trials(config, done)
        minimized = lower_is_better(config.search.metric or "")
        self._watch = progress.Watch(self.folder, self._total, minimized)

    def _prepare(self, config: DictConfig) -> None:
        """A temporary folder, and the last step's worker for all trials on this machine."""
        self._temporary = processes.Temporary(self._marker)
        self._temporary.begin()
        self._tracker.prepare()
        here = "Ray" not in config.hydra.launcher._target_
        if config.main.backend == backends.PREFORK and here:
            last = chosen_steps(config.main.steps, sweep=True)[-1]
            workers.trial_workers().prepare(ROOT / last, config.main.env_manager)

    def _tidy(self, recorded: bool = True, interrupted: bool = False) -> None:
        self._end_watch()
        workers.trial_workers().close()
        if self._temporary:
            self._temporary.end(recorded, interrupted)

    def _end_watch(self) -> None:
        if self._watch:
            self._watch.close()

    def _write(self, unfinished: bool) -> None:
        """The file by which a later start knows this sweep."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        told = {"id": self.id, "folder": str(self.folder), "mlflow_run": self.run}
        write_whole(self._file, json.dumps(told | {"unfinished": unfinished}))

    def _tell_trials(self, config: DictConfig, done: list[int]) -> None:
        """Put what trials have to know into the overrides that all of them get."""
        told = job.SweepContext(self.id, self.run, done, dependencies.library_variables(os.environ))
        variables = {
            job.SWEEP_VARIABLE: told.to_json(),
            settings.WORKERS: str(workers.trial_workers().folder or ""),
        }
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = str(self.folder)
            config.hydra.job.env_set.update(variables)
            config.hydra.hydra_logging.root.level = "WARNING"  # each trial has a line of our own
            given = {"hydra.sweep.dir": str(self.folder)}
            given |= {f"+hydra.job.env_set.{name}": value for name, value in variables.items()}
            for key, value in given.items():
                config.hydra.overrides.hydra.append(f"{key}={overrides.quoted(value)}")

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """A trial begins."""
        self._trial_started = time.monotonic()
        if config.hydra.mode is RunMode.MULTIRUN and not config.main.explain:
            self.report(kind="begun", trial=config.hydra.job.num)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """A trial has ended: tell it, and keep a failure from ending the others."""
        if config.hydra.mode is not RunMode.MULTIRUN or config.main.explain:
            return
        sweep = job.SweepContext.of(config.hydra.job.env_set)
        if sweep is None:
            return  # a sweep that was refused
        number = config.hydra.job.num
        value = job_return._return_value  # noqa: SLF001 - Hydra's public one raises the job's error
        took = f"in {time.monotonic() - self._trial_started:.1f} s"
        parameters = job.parameters(job_return.overrides)
        given = " ".join(f"{k}={v}" for k, v in parameters.items() if k not in self._fixed)
        begun = job.current_trial(sweep.id, number) or sweep.trial(number, job_return.overrides)
        if job_return.status is JobStatus.COMPLETED:
            if begun.mlflow_run:
                _record().log_objective(begun.mlflow_run, value)
            self.report(kind="ended", trial=number, given=given, value=value, took=took)
            return
        failure = {"error": _told(value), "value": None}
        self.report(kind="ended", trial=number, given=given, took=took, **failure)
        if not isinstance(value, PipelineError):
            log = Path(config.hydra.runtime.output_dir, "error.log")
            log.write_text("".join(traceback.format_exception(value)), encoding="utf-8")
        if not begun.mlflow_run:
            _record().record_refused(begun, value)
        job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Sum up: the table, the figures, the end of the sweep's run."""
        if not self.run:
            return
        from pipeline.sweeps import summary as sweep_summary

        self._end_watch()
        try:
            found = _record().end(self.run)
            failed = any(one.state != "FINISHED" for one in found)
            self._write(unfinished=failed if self.missing is None else self.missing > 0)
            atexit.unregister(self._cut_off)
            try:
                sweep_summary.show(found, config, self.id, self.folder)
                sweep_summary.log(found, config, self.id, self.run, self.folder, self._tracker)
                if config.search.refit:
                    self._refit(sweep_summary.ranked(found, config), config)
            finally:
                self._tidy()
            self._refuse_failures(found)
        except PipelineError as error:
            raise SystemExit(1) from error
        except Exception as error:  # Hydra would make a warning of it
            raise SystemExit(1) from _unexpected("the sweep could not be summed up", error)

    def refuse(
        self, config: DictConfig, number: int, overrides: list[str], error: PipelineError
    ) -> None:
        """Tell and record a trial that has no configuration to be run with."""
        trial_config = config.copy()
        with read_write(trial_config.hydra):
            trial_config.hydra.job.num = number
        self.on_job_start(trial_config)
        failed = JobReturn(overrides, status=JobStatus.FAILED, _return_value=error)
        self.on_job_end(trial_config, failed)

    def _refit(self, best: "Sequence[TrialRecord]", config: DictConfig) -> None:
        """Train the best trial on all training rows; its model is the candidate."""
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

    def _refuse_failures(self, found: "Sequence[TrialRecord]") -> None:
        """A sweep in which trials failed ends with an error, after all has been told.

        Not where Optuna has brought others about in their place.

        Raises:
            PipelineError: how many failed, and the first one's error.
        """
        failed = [one for one in found if one.state != "FINISHED"]
        count = f"{len(failed)} of {len(found)} trials failed"
        if failed and self.missing == 0:
            say(f"{count}; others were run in their place", flush=True)
        elif failed:
            why = failed[0].error.partition("\n")[0] or "error.log in its folder says why"
            raise PipelineError(
                f"{count}; trial {failed[0].number}: {why}",
                "the others are recorded; the same command "
                + ("tries the failed ones again" if self.missing is None else "proposes others"),
            )
        elif self.missing:
            raise PipelineError(
                "no trial has come to a metric that it could be compared by",
                "main.steps has to name the step that trains the model",
            )

    def _cut_off(self) -> None:
        """The program ends before the sweep has ended."""
        recorded = False
        with contextlib.suppress(Exception):  # a server may be what failed; a later start tidies up
            _record().mark_interrupted(self.run)
            recorded = True
        self._tidy(recorded, interrupted=True)
        say(f"sweep {self.id} has not ended; the same command goes on with it", file=sys.stderr)


def sweep_among(callbacks: Callbacks) -> Sweep:
    """The sweep among Hydra's callbacks."""
    return next(one for one in callbacks.callbacks if isinstance(one, Sweep))


def _record() -> Any:
    from pipeline.sweeps import record as sweep_record

    return sweep_record


def _unexpected(what: str, error: Exception) -> PipelineError:
    """A failure that is no trial's; of files and databases in terms of what to do about it."""
    told = databases.as_pipeline_error(error) or PipelineError(
        f"{what}: {type(error).__name__}: {error}", "HYDRA_FULL_ERROR=1 shows where"
    )
    told.__cause__ = error
    return told


def count_trials(typed: "Sequence[Override]", sweeper: DictConfig) -> int:
    """How many trials there will be, unless some fail and others are run in their place."""
    if "n_trials" in sweeper:
        return int(sweeper.n_trials)
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    every = [*typed, *OverridesParser.create().parse_overrides(params)]
    swept = {one.key_or_group: one for one in every if one.is_sweep_override()}
    return math.prod(len([*one.sweep_string_iterator()]) for one in swept.values())


def _told(error: Any) -> str:
    """An error in one line."""
    if isinstance(error, PipelineError):
        return error.what.partition("\n")[0]
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def identity(config: DictConfig) -> str:
    """A digest of what is searched and of the code: a start with the same one is the same sweep."""
    given = config.hydra.overrides
    overrides = job.raw_overrides(given.task) + trial.raw_overrides(given.hydra)
    wanted = sorted(word for word in overrides if not word.lstrip("+~").startswith(MEANS))
    settings_only = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    files = [ROOT / "main.py", *sorted((ROOT / "pipeline").rglob("*.py"))]
    for step in step_folders():
        files += step_files(ROOT / step)
    parts = [wanted, OmegaConf.to_container(settings_only), [file_digest(path) for path in files]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
