"""The orchestrator: runs each step as an MLflow project, and records what came of it."""

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import mlflow
import mlflow.projects
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID
from omegaconf import DictConfig, OmegaConf

from pipeline import ROOT, environments, mlflow_store, provenance, settings, tracking
from pipeline import config as configuration
from pipeline.errors import PipelineError
from pipeline.screen import Screen, last_lines, print_result

GRACE = 3.0  # seconds that a step has to end by itself after Ctrl-C
LONGEST_PARAMETER = 4000  # MLflow cuts what is longer than 6000, quotes included


@dataclass
class StepResult:
    """What a step came to; ``result["clean_data.csv"]`` is the exact version it produced."""

    step: str
    status: str  # ran, cached, failed, killed or skipped
    seconds: float | None = None
    mlflow_run: str | None = None
    inputs: list[dict[str, str]] = field(default_factory=list)
    outputs: list[dict[str, str]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    tracker_run: str | None = None
    tracker_url: str | None = None

    def __getitem__(self, artifact: str) -> str:
        """``name:version`` of an output, or ``name:latest`` of a step that was not to run."""
        for output in self.outputs:
            if output["name"] == artifact:
                return f"{artifact}:{output['version']}"
        if self.status == "skipped":
            return f"{artifact}:latest"
        raise PipelineError(
            f"{self.step} logged no artifact {artifact!r}",
            f"it logged: {', '.join(output['name'] for output in self.outputs)}",
        )

    def metric(self, name: str | None) -> float | None:
        """A metric by name; None means the usual one, and None comes back where there is none."""
        if name is None:
            name = next((usual for usual in ("f1", "r2") if usual in self.metrics), None)
        if name is None or self.status == "skipped":
            return None
        if name not in self.metrics:
            raise PipelineError(
                f"model.metric={name!r} was not measured",
                f"use one of: {', '.join(self.metrics)}",
            )
        return self.metrics[name]


class Pipeline:
    """One run of the pipeline: its steps, its parent run in MLflow, its summary."""

    def __init__(self, config: DictConfig):
        configuration.check(config)
        self.config = config
        self.folder = Path(HydraConfig.get().runtime.output_dir)
        self.id = _run_id(self.folder)
        self.chosen = configuration.chosen_steps(config.main.steps)
        self.tracker = tracking.choose(config.main.tracker)
        self.results: dict[str, StepResult] = {}
        self.running: str | None = None
        self._export()
        self.experiment = mlflow_store.connect(config.main.experiment_name)
        self.screen = Screen(configuration.step_folders())
        self.parent: str | None = None

    def _export(self) -> None:
        """Tell the steps, through the environment, where they belong."""
        commit = provenance.commit(ROOT)
        self.commit = commit
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
            os.environ.pop(name, None)  # of the `mlflow run .` that may have started us
        state = configuration.save_path(self.config)
        _drop_default_store(state)
        os.environ.update(
            {
                "WANDB_PROJECT": self.config.main.project_name,
                "WANDB_RUN_GROUP": self.config.main.experiment_name,
                settings.STATE_DIR: str(state),
                settings.TRACKER: self.tracker,
                settings.RUN_ID: self.id,
                settings.GIT_COMMIT: commit.sha if commit else "",
            }
        )
        environments.prepare_process()

    def run(self, step: str, parameters: Mapping[str, Any]) -> StepResult:
        """Run one step, unless it was not chosen."""
        if step not in self.chosen:
            result = StepResult(step, "skipped")
        else:
            result = self._execute(step, parameters)
        self.results[step] = result
        produced = "  ".join(f"{o['name']}:{o['version']}" for o in result.outputs)
        self.screen.ended(step, result.status, result.seconds, produced)
        for warning in result.warnings:
            self.screen.warn(warning)
        return result

    def _execute(self, step: str, parameters: Mapping[str, Any]) -> StepResult:
        log = self.folder / f"{step}.log"
        report = self.folder / f"{step}.json"
        os.environ[settings.REPORT] = str(report)
        self.screen.started(step, log)
        started = time.monotonic()
        self.running = step
        try:
            with _output_to(log):
                environments.ensure(ROOT / step, self.config.main.env_manager)
                submitted = mlflow.projects.run(
                    str(ROOT / step),
                    parameters={key: self._parameter(value) for key, value in parameters.items()},
                    experiment_id=self.experiment,
                    run_name=step,
                    env_manager=self.config.main.env_manager,
                )
        except KeyboardInterrupt:
            self._give_up(step, "killed", started)
            raise
        except ExecutionException as error:
            self._give_up(step, "failed", started)
            raise self._failure(step, report, log, error) from error
        except Exception:
            self._give_up(step, "failed", started)
            raise
        finally:
            os.environ.pop(settings.REPORT, None)
        self.running = None
        told = json.loads(report.read_text())
        known = {key: told[key] for key in told if key in StepResult.__dataclass_fields__}
        result = StepResult(step, "ran", time.monotonic() - started, submitted.run_id, **known)
        self._tag(result)
        return result

    def _parameter(self, value: Any) -> str:
        """A parameter as text: JSON for what is not text, a file for what is long."""
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True)
        if value is None:
            return ""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if len(text) <= LONGEST_PARAMETER or isinstance(value, str):
            return text
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        path = configuration.save_path(self.config) / "parameters" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return f"@{path}"

    def _tag(self, result: StepResult) -> None:
        """Record on the step's MLflow run exactly what it used and produced."""
        client = mlflow.MlflowClient()
        tags = {"pipeline.run_id": self.id, "pipeline.step": result.step}
        for direction in ("inputs", "outputs"):
            for artifact in getattr(result, direction):
                key = f"pipeline.{direction}.{artifact['name']}"
                tags[key] = f"{artifact['version']} {artifact['digest']}"
        if result.tracker_url:
            tags["tracker.url"] = result.tracker_url
        for key, value in tags.items():
            client.set_tag(result.mlflow_run, key, value)

    def _give_up(self, step: str, status: str, started: float) -> None:
        """Record a step that failed or was stopped, here and on its MLflow run."""
        run_id = self._last_child()
        self.results[step] = StepResult(step, status, time.monotonic() - started, run_id)
        self.screen.ended(step, status, time.monotonic() - started, "")
        if run_id:
            state = RunStatus.to_string(
                RunStatus.KILLED if status == "killed" else RunStatus.FAILED
            )
            mlflow.MlflowClient().set_terminated(run_id, state)

    def _last_child(self) -> str | None:
        """The run of a step that did not come back; MLflow does not say which it was."""
        found = mlflow.MlflowClient().search_runs(
            [self.experiment],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.parent}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        done = {result.mlflow_run for result in self.results.values()}
        return found[0].info.run_id if found and found[0].info.run_id not in done else None

    def _failure(self, step: str, report: Path, log: Path, cause: Exception) -> PipelineError:
        """A step's own words, where it had any; else the end of its log, or MLflow's words."""
        if report.is_file():
            error = json.loads(report.read_text())["error"]
            return PipelineError(
                f"{step} failed: {error['what']}", f"{error['remedy']}\nfull log: {log}".strip()
            )
        tail = "\n".join(last_lines(log)) or str(cause)
        return PipelineError(f"{step} failed; the end of its log:\n{tail}", f"full log: {log}")

    def __enter__(self) -> "Pipeline":
        run = mlflow.start_run(experiment_id=self.experiment, run_name=self.id)
        self.parent = run.info.run_id
        mlflow.set_tags(
            {
                "pipeline.run_id": self.id,
                "pipeline.tracker": self.tracker,
                "developer": provenance.developer(),
                **({} if not self.commit else {MLFLOW_GIT_COMMIT: self.commit.sha}),
                **({} if not self.commit else {"git.dirty": str(self.commit.dirty).lower()}),
            }
        )
        mlflow.log_text(OmegaConf.to_yaml(self.config, resolve=True), "config.yaml")
        self.screen.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.screen.__exit__()
        status = "FINISHED" if kind is None else "KILLED"
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            status = "FAILED"
        last = list(self.results.values())[-1:]
        if kind is None and last:
            mlflow.log_metrics(last[0].metrics)
        mlflow.end_run(status)
        self._write_summary(status)
        if kind is None:
            steps = {name: vars(result) for name, result in self.results.items()}
            print_result(self.screen.console, steps, self._hints())
        elif issubclass(kind, KeyboardInterrupt):
            self.screen.console.print(f"interrupted in {self.running}; run again to continue")
        self.screen.close()

    def _hints(self) -> list[str]:
        return [
            f"run {self.id}: {self.folder}",
            "dashboards: make dashboard",
        ]

    def _write_summary(self, status: str) -> None:
        """``summary.json`` in the run's folder: what ran, on what, with what result."""
        summary = {
            "run_id": self.id,
            "status": status.lower(),
            "tracker": self.tracker,
            "mlflow_run": self.parent,
            "git_commit": self.commit.sha if self.commit else None,
            "steps": {name: vars(result) for name, result in self.results.items()},
            "metrics": next(
                (r.metrics for r in reversed(list(self.results.values())) if r.metrics), {}
            ),
        }
        partial = self.folder / "summary.json.partial"
        partial.write_text(json.dumps(summary, indent=2), encoding="utf-8")
        partial.replace(self.folder / "summary.json")


_current: Pipeline | None = None


@contextlib.contextmanager
def start(config: DictConfig) -> Iterator[Pipeline]:
    """Begin a run of the pipeline with a resolved configuration; :func:`run` belongs to it.

    Raises:
        PipelineError: a setting that can't work, before anything is run.
    """
    global _current
    try:
        with _interruptible(), Pipeline(config) as _current:
            yield _current
    except PipelineError as error:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            raise  # a trial's failure is the sweep's to record
        raise SystemExit(1) from error  # past Hydra, which would tell it in its own way
    finally:
        _current = None


def run(step: str, **parameters: Any) -> StepResult:
    """Run a step with these parameters; its result names the exact versions it produced.

    Raises:
        PipelineError: the step failed; the message is its own, or the end of its log.
    """
    if _current is None:
        raise RuntimeError("pipeline.run() outside of `with pipeline.start(config):`")
    return _current.run(step, parameters)


def _run_id(folder: Path) -> str:
    """A run is named after its folder; a trial of a sweep after the sweep's and its number."""
    return f"{folder.parent.name}-{folder.name}" if folder.name.isdigit() else folder.name


def _drop_default_store(state: Path) -> None:
    """`mlflow run .` without MLFLOW_TRACKING_URI names a database in the current folder.

    All state lives in one place, so that name is not taken for a wish.
    """
    path = mlflow_store.local_path(os.environ.get("MLFLOW_TRACKING_URI", ""))
    default = path and path.name == "mlflow.db" and path.parent.resolve() in (ROOT, Path.cwd())
    if default and path.parent.resolve() != state.resolve():
        del os.environ["MLFLOW_TRACKING_URI"]


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


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """On Ctrl-C or SIGTERM, end every process below this one, then raise KeyboardInterrupt."""

    def stop(number: int, frame: FrameType | None) -> None:
        end_children()
        raise KeyboardInterrupt

    try:
        before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever started us gets the signals
        yield
        return
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def end_children() -> None:
    """End all processes below this one: asked first, killed after the grace."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    _, alive = psutil.wait_procs(children, timeout=GRACE)
    for child in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(alive, timeout=1)
