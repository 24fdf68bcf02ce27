"""Repeats a recorded run and compares the results, or starts a changed run from it."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import tracking
from pipeline.config import references
from pipeline.config.checks import ENV_MANAGERS
from pipeline.config.job import new_run_id
from pipeline.core import settings
from pipeline.core.errors import PipelineError, unknown_value
from pipeline.core.results import SUMMARY, StepResult
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.history.records import RunRecord, parse_summary
from pipeline.history.reproduction import equality, recreate
from pipeline.history.reproduction.equality import Item
from pipeline.history.runs import History
from pipeline.history.stored import step_files
from pipeline.orchestration.execution import processes
from pipeline.provenance import origin
from pipeline.steps.context import VARIABLE, StepContext

SHOWN = 5  # packages listed in a warning
LARGEST_TABLE = 50_000_000  # bytes; larger tables are compared by digest only


def run_again(name: str, env_manager: str | None, tolerance: float) -> bool:
    """Repeat a run with its code, data and environment; print and return if results are equal.

    The new run has a state folder of its own and leaves other stores unchanged.

    Args:
        name: the run, see :meth:`pipeline.history.runs.History.find`.
        env_manager: what builds the environments; None uses the recorded one.
        tolerance: relative difference up to which numbers count as equal.

    Raises:
        PipelineError: A part of the run is missing, or the new run failed.
    """
    history = History()
    run = history.find(name)
    steps, reports = _steps_and_reports(run)
    manager = _env_manager(env_manager, run)
    state = settings.state_dir() / "reproductions" / new_run_id()
    with recreate.code_folder(run) as code:
        config = _config(run, steps, state, manager)
        recreate.pin_data(run, config, reuse_url=False)
        locks = {name: step_files.lock(step) for name, step in steps.items()}
        _prepare(code, manager, locks)
        places = {settings.STATE_DIR: str(state), settings.PROJECT: run.project}
        variables = recreate.variables(**places)
        for artifact in recreate.outside_inputs(steps):
            with recreate.artifact_folder(run, artifact) as files:
                recreate.log_artifact(artifact, files, variables)
        folder = state / "runs" / new_run_id()
        state.mkdir(parents=True, exist_ok=True)
        arguments = recreate.write_config(config, code, state, folder)
        if processes.launch(code, arguments, variables):
            started = (folder / SUMMARY).exists()
            if not started:  # the run was refused
                shutil.rmtree(state)
            raise PipelineError(
                f"run {run.id} could not be repeated; the reason is above",
                f"its partial results are in {state}" if started else "",
            )
    items = compare(history, run, steps, folder, tolerance)
    _print(run, items, reports)
    if all(item.holds for item in items):
        shutil.rmtree(state)
        return True
    say(f"results of the new run: {state}")
    return False


def start_from(
    name: str, *, code: str, data: str, changes: list[str], env_manager: str | None
) -> int:
    """Start a changed run that is linked to a recorded one; return its exit status.

    Args:
        name: the recorded run.
        code: ``recorded`` or ``current``.
        data: ``recorded`` or ``latest``.
        changes: overrides of its configuration.
        env_manager: what builds the environments; None uses the recorded one.
    """
    recreate.check_overrides(changes)
    changes = references.protect_words(changes)  # other users can read the command line
    run = History().find(name)
    if not run.config:
        raise PipelineError(f"run {run.id} has no recorded configuration", "use another run")
    if code == "current":
        return _start(run, ROOT, data, changes, env_manager)
    with recreate.code_folder(run) as folder:
        return _start(run, folder, data, changes, env_manager)


def _start(
    run: RunRecord, code: Path, data: str, changes: list[str], env_manager: str | None
) -> int:
    config = recreate.adapt_config(run.config, code)
    state, id = settings.state_dir(), new_run_id()
    folder = state / "runs" / id
    own_data = any(change.startswith("data.file_url=") for change in changes)
    if data == "recorded" and not own_data:
        recreate.pin_data(run, config, reuse_url=True)
    elif data == "latest":
        config["data"]["sha256"] = None
    manager = _env_manager(env_manager, run)
    config["main"] |= {"state_dir": str(state), "env_manager": manager}
    config["main"] |= {"force": False, "explain": False}
    if tracking.choose(config["main"]["tracker"]) != run.tracker:
        config["main"]["tracker"] = run.tracker
    with tempfile.TemporaryDirectory(prefix="config-") as config_folder:
        arguments = recreate.write_config(config, code, Path(config_folder), folder, changes)
        context = {VARIABLE: StepContext(based_on=run.id).to_json()}
        status = processes.launch(code, arguments, {**os.environ, **context})
    if not status:
        say(f"run {id} goes on from {run.id}: python -m pipeline diff {run.id} {id}")
    return status


def _steps_and_reports(run: RunRecord) -> tuple[dict[str, StepResult], list[str]]:
    """The steps to repeat, and the names of steps that only write reports.

    A report names its own run, commit and command and the report before it, so a repeated run's
    report always differs.

    Raises:
        PipelineError: The run did not finish, or has only a report.
    """
    report_type = run.config.get("report", {}).get("artifact_type")
    steps = recreate.results(run)
    reports = [
        name
        for name, step in steps.items()
        if step.outputs and all(output["type"] == report_type for output in step.outputs)
    ]
    compared = {name: step for name, step in steps.items() if name not in reports}
    if reports and not compared:
        raise PipelineError(
            f"run {run.id} has only a report, which can't be compared",
            "reproduce the run that trained the model",
        )
    return compared, reports


def _env_manager(requested: str | None, run: RunRecord) -> str:
    if requested and requested not in ENV_MANAGERS:
        raise unknown_value("--env-manager", requested, ENV_MANAGERS)
    return requested or run.config["main"]["env_manager"]


def _config(
    run: RunRecord, steps: Mapping[str, StepResult], state: Path, env_manager: str
) -> dict[str, Any]:
    """A run's configuration for the same steps with a state folder of their own."""
    config = {section: dict(values) for section, values in run.config.items()}
    config["main"] |= {"state_dir": str(state), "tracker": "trackio", "env_manager": env_manager}
    config["main"] |= {"steps": list(steps), "force": True, "explain": False}
    config["main"] |= {"backend": "local", "backend_config": None}
    config["provenance"]["snapshot"] = False
    return config


def _prepare(code: Path, env_manager: str, locks: Mapping[str, list[str]]) -> None:
    """Pin each step's packages as recorded; with ``local``, warn about differences."""
    if env_manager != "local":
        from pipeline.orchestration.execution import environments

        environments.prepare_process()
        for step, lines in locks.items():
            recreate.pin_environment(code / step, lines)
        return
    installed = origin.environment_lock()
    changes = {
        change for lines in locks.values() for change in equality.lock_changes(lines, installed)
    }
    if changes:
        listed = sorted(changes)[:SHOWN]
        omitted = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        say(f"warning: this environment is not the recorded one: {'; '.join(listed)}{omitted}")
        say("  --env-manager uv builds the recorded one", flush=True)


def compare(
    history: History,
    run: RunRecord,
    steps: Mapping[str, StepResult],
    folder: Path,
    tolerance: float,
) -> list[Item]:
    """Compare all results of a run's steps with those of the new run.

    Args:
        history: all runs, to find the runs whose steps this one reused.
        run: the recorded run.
        steps: its steps that have results.
        folder: the new run's folder, in ``runs`` of its state folder.
        tolerance: see :func:`run_again`.
    """
    path = folder / SUMMARY
    new_run = parse_summary(path.read_text(encoding="utf-8"), path, folder)
    state = folder.parent.parent
    items: list[Item] = []
    for name, before in steps.items():
        after = new_run.steps[name]
        items += _artifacts(run, before, after, state, tolerance)
        items += _metrics(before, after, tolerance)
        maker_run = history.local.get(before.pipeline_run or run.id)
        old = step_files.tables(before, maker_run and maker_run.folder)
        items += _tables(name, old, step_files.tables(after, folder), tolerance)
        items.append(equality.lock(name, step_files.lock(before), step_files.lock(after, state)))
    return items


def _artifacts(
    run: RunRecord, before: StepResult, after: StepResult, state: Path, tolerance: float
) -> Iterator[Item]:
    old = {output["name"]: output for output in before.outputs}
    new = {output["name"]: output for output in after.outputs}
    yield from equality.unmatched(before.step, old, new)
    for name in [name for name in old if name in new]:
        digests = old[name]["digest"], new[name]["digest"]
        if digests[0] == digests[1]:
            yield Item(before.step, name, equality.IDENTICAL, digests[0][:12])
            continue
        new_files = [state / "trackio" / file for file in new[name]["stored"]]
        with recreate.artifact_folder(run, old[name]) as files:
            old_text, new_text = _text([*filter(Path.is_file, files.rglob("*"))]), _text(new_files)
        if name.endswith(".csv") and old_text is not None and new_text is not None:
            yield equality.table(before.step, name, old_text, new_text, tolerance)
        else:
            how = " -> ".join(digest[:12] for digest in digests)
            yield Item(before.step, name, equality.DIFFERENT, f"digest {how}")


def _text(files: list[Path]) -> str | None:
    """A table's text; None if it is too large to compare cell by cell, or is not text.

    A table may have a schema beside it: JSON, told apart by its first byte, since files in a
    tracker's store have no names.
    """
    files = [file for file in files if len(files) == 1 or file.read_bytes()[:1] != b"{"]
    if len(files) != 1 or files[0].stat().st_size > LARGEST_TABLE:
        return None
    try:
        return files[0].read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def _metrics(before: StepResult, after: StepResult, tolerance: float) -> Iterator[Item]:
    old, new = before.metrics, after.metrics
    yield from equality.unmatched(before.step, old, new)
    for name in [name for name in old if name in new]:
        yield equality.number(before.step, name, old[name], new[name], tolerance)


def _tables(
    step: str, old: Mapping[str, str], new: Mapping[str, str], tolerance: float
) -> Iterator[Item]:
    yield from equality.unmatched(step, old, new)
    for name in [name for name in old if name in new]:
        yield equality.table(step, name, old[name], new[name], tolerance)


def _print(run: RunRecord, items: list[Item], reports: list[str]) -> None:
    """Print the outcome of each item and of the whole comparison."""
    width = max(len(item.name) for item in items)
    step = None
    for item in items:
        if item.step != step:
            step = item.step
            say(f"\n{step}")
        say(f"  {item.name:<{width}}  {item.outcome}{f': {item.detail}' if item.detail else ''}")
    for name in reports:
        say(f"\n{name}\n  not compared: a report describes its own run")
    different = sum(not item.holds for item in items)
    equal = sum(item.outcome == equality.EQUAL for item in items)
    if different:
        say(f"\nrun {run.id} was not reproduced: {different} of {len(items)} items differ")
    else:
        within = f", {equal} of them within tolerance" if equal else ""
        say(f"\nrun {run.id} was reproduced: all {len(items)} items are the same{within}")
