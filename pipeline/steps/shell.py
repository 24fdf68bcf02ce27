"""The main function of a step's script: parses arguments, opens the run and writes the report.

A script passes its parser and a function ``go(args, run)`` to :func:`main`. ``go`` reads artifacts
with ``run.use_artifact``, calls the science and logs the result with ``run.log_artifact``.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pipeline.core import azure, databases, settings, variables
from pipeline.core.errors import PipelineError, interrupt_once
from pipeline.core.security import hardening, secrets
from pipeline.core.text import printable
from pipeline.steps.context import HANDED_OVER, StepContext
from pipeline.steps.report import write_report
from pipeline.steps.run import Run
from pipeline.steps.tracing import trace


def _read_remote_job(folder: Path) -> dict[str, Any]:
    """Arguments, environment and context sent to a step on another machine; else empty."""
    path = folder / HANDED_OVER
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main(
    file: str,
    arguments: argparse.ArgumentParser,
    go: Callable[[argparse.Namespace, Run], None],
) -> None:
    """Run a step's ``go(args, run)`` and exit: 0, 1 after an error, 130 after Ctrl-C.

    Args:
        file: the script's ``__file__``; its folder names the step.
        arguments: the script's parser.
        go: reads artifacts from the run, calls the science and logs the results.
    """
    folder = Path(file).resolve().parent
    remote_job = _read_remote_job(folder)
    name = remote_job.get("step", folder.name)
    variables.set_defaults(remote_job.get("environment", {}))
    hardening.harden()
    hardening.close_state()
    azure.guard_tracebacks()
    interrupt_once()
    args = arguments.parse_args(remote_job.get("arguments"))
    context = StepContext()
    try:
        context = (
            StepContext(**remote_job["context"]) if remote_job else StepContext.from_environment()
        )
        protected = _protected(args)
        args = argparse.Namespace(**secrets.resolve(protected, trace.reads))
        _check_names(args)
        write_report(_run(name, args, protected, go, context), context)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        readable = databases.as_pipeline_error(error)
        if readable is None:
            raise
        _fail(name, readable, context)


def _protected(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments with references in place of secrets, including plain-text secrets."""
    return {
        key: secrets.move_to_environment(key, value) if isinstance(value, str) else value
        for key, value in vars(args).items()
    }


def _check_names(args: argparse.Namespace) -> None:
    """Refuse artifact names that are no valid file names."""
    for key, value in vars(args).items():
        if key.endswith("artifact_name") and isinstance(value, str):
            settings.check_name(f"an artifact ({key})", value)


def _fail(name: str, error: PipelineError, context: StepContext) -> NoReturn:
    """Report an error to the orchestrator and on standard error, and exit."""
    error = PipelineError(secrets.for_display(error.what), secrets.for_display(error.remedy))
    with contextlib.suppress(OSError, PipelineError):  # the exit status still reports the failure
        write_report({"error": {"what": error.what, "remedy": error.remedy}}, context)
    raise SystemExit(printable(f"error in {name}: {error}")) from None


def _run(
    name: str,
    args: argparse.Namespace,
    recorded: dict[str, Any],
    go: Callable[[argparse.Namespace, Run], None],
    context: StepContext,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        run = Run(name, args, Path(folder), context, recorded)
        with contextlib.ExitStack() as on_failure:
            on_failure.push(lambda _, error, __: run.finish(failed=True, error=error))
            go(args, run)
            proof = run.evidence()
            on_failure.pop_all()
        run.finish()
        return run.report() | proof
