"""What a step's script uses: typed arguments, a run in the tracker, and a report.

A script parses its arguments with :func:`parser`, and gives :func:`main` a function
``go(args, run)``: pure science between ``run.use`` and ``run.log_artifact``.
"""

import argparse
import contextlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline import azure, provenance, settings, startup, tracking
from pipeline.errors import PipelineError
from pipeline.tracking import Artifact

if TYPE_CHECKING:
    import pandas as pd


LONGEST_TAG = 4000  # characters of the report in one tag


def json_value(text: str) -> Any:
    """An argument that is JSON (``[1, 2]``, ``{"a": 1}``, ``0.2``); empty means None.

    ``@path`` reads it from a file, for values too long for a command line.
    """
    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from error


def optional(text: str) -> str | None:
    """A text argument for which an empty string means None."""
    return text or None


def parser(description: str | None) -> argparse.ArgumentParser:
    """An argument parser that shows defaults in ``--help`` and takes no abbreviations."""
    return argparse.ArgumentParser(
        description=(description or "").strip().splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )


class StepRun:
    """A step's run in the tracker, and the record of what it used and produced.

    Attributes:
        folder: a temporary folder for the step's files, removed when it ends.
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
        self._tracker = tracking.open_run(
            tracking.choose(os.environ.get(settings.TRACKER) or "auto"),
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
        return tracking.find(self._tracker.kind, reference)

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
            tracking.set_alias(self._tracker.kind, artifact.reference, alias)
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
        _keep_table(f"{self._name}.{name}.csv", table)

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

            from pipeline import mlflow_store

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
            "environment": provenance.environment_lock(),
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
    return {"developer": provenance.developer(), **known}


def _write_report(report: Mapping[str, Any]) -> None:
    """Hand the report to the orchestrator, whole or not at all."""
    target = os.environ.get(settings.REPORT)
    if target == settings.BY_MLFLOW:
        _tag_run(json.dumps(report))
    elif target:
        partial = Path(f"{target}.partial")
        partial.write_text(json.dumps(report), encoding="utf-8")
        partial.replace(target)


def _keep_table(name: str, table: "pd.DataFrame") -> None:
    """Leave a table as CSV where the orchestrator finds it, so that two runs' can be compared."""
    target = os.environ.get(settings.REPORT)
    if target == settings.BY_MLFLOW:
        import mlflow

        client = mlflow.MlflowClient()
        client.log_text(os.environ["MLFLOW_RUN_ID"], table.to_csv(index=False), f"tables/{name}")
    elif target:
        table.to_csv(Path(target).with_name(name), index=False)


def _tag_run(text: str) -> None:
    """Put the report on this step's MLflow run, in tags as long as any server takes them."""
    import mlflow

    run, size = os.environ.get("MLFLOW_RUN_ID"), LONGEST_TAG
    parts = (text[start : start + size] for start in range(0, len(text), size))
    tags = {f"{settings.REPORT_TAG}{number:03}": part for number, part in enumerate(parts)}
    if not run:
        raise PipelineError(
            "MLFLOW_RUN_ID is not set, so nobody would learn what this step has made",
            "the backend has to set it, and MLFLOW_TRACKING_URI: docs/remote.md",
        )
    try:
        entities = [mlflow.entities.RunTag(key, value) for key, value in tags.items()]
        mlflow.MlflowClient().log_batch(run, tags=entities)
    except mlflow.exceptions.MlflowException as error:
        raise PipelineError(f"MLflow does not take the report: {error}") from error


def _handed_over(folder: Path) -> dict[str, Any]:
    """What a step on another machine was sent; nothing here."""
    path = folder / settings.HANDED_OVER
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main(
    file: str,
    arguments: argparse.ArgumentParser,
    go: Callable[[argparse.Namespace, StepRun], None],
    prepare: Callable[[], None] | None = None,
) -> None:
    """Run a step's ``go(args, run)`` and exit: 0, 1 after an error, 130 after Ctrl-C.

    Args:
        file: the script's ``__file__``; its folder names the step.
        arguments: the script's parser.
        go: reads artifacts from the run, calls the science, logs what came out.
        prepare: imports what ``go`` would only import when it needs it; called where there is time
            for it before the step's turn. It must start no threads.
    """
    folder = Path(file).resolve().parent
    with startup.turn(lambda: _prepare(prepare)):
        handed = _handed_over(folder)
        name = handed.get("step", folder.name)
        for variable, value in handed.get("environment", {}).items():
            os.environ.setdefault(variable, value)
        azure.guard_tracebacks()
        args = arguments.parse_args(handed.get("arguments"))
        if os.environ.get(settings.LIFELINE):
            _end_with_orchestrator(os.environ[settings.LIFELINE])
        try:
            _write_report(_run(name, args, go))
        except PipelineError as error:
            _fail(name, error)
        except OSError as error:  # a full disk, a folder that can't be written
            remedy = "check the disk and its permissions, and run again"
            _fail(name, PipelineError(str(error), remedy))
        except KeyboardInterrupt:
            raise SystemExit(130) from None


def _prepare(more: Callable[[], None] | None) -> None:
    """Import what this step will need later on."""
    tracking.load(os.environ[settings.TRACKER])
    if "mlflow" in sys.modules and settings.sqlite_path(settings.tracking_uri()):
        for kind in ("tracking", "model_registry"):
            importlib.import_module(f"mlflow.store.{kind}.sqlalchemy_workspace_store")
    if more:
        more()


def _fail(name: str, error: PipelineError) -> NoReturn:
    """Tell an error to the orchestrator and to whoever reads along, and exit."""
    with contextlib.suppress(OSError, PipelineError):  # then the exit status has to do
        _write_report({"error": {"what": error.what, "remedy": error.remedy}})
    raise SystemExit(f"error in {name}: {error}") from None


def _end_with_orchestrator(lifeline: str) -> None:
    """End this step, now or later, when the orchestrator is gone: nobody would take its result.

    Args:
        lifeline: a pipe that the orchestrator holds open as long as it lives.
    """
    try:
        pipe = os.open(lifeline, os.O_RDONLY | os.O_NONBLOCK)  # else it waits for a writer
        os.read(pipe, 1)
    except BlockingIOError:  # there is one: the orchestrator lives
        os.set_blocking(pipe, True)
        threading.Thread(target=_end_after, args=[pipe], daemon=True).start()
        return
    except FileNotFoundError:
        pass  # gone already
    os._exit(1)


def _end_after(pipe: int) -> NoReturn:
    os.read(pipe, 1)  # nothing ever comes; it ends when the other end does
    os._exit(1)


def _run(name: str, args: argparse.Namespace, go: Callable) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        run = StepRun(name, args, Path(folder))
        startup.imported()  # the tracker's library was the last one
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(run.finish, failed=True)
            go(args, run)
            on_failure.pop_all()
        run.finish()
        return run.report()
