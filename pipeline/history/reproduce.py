"""Run a recorded run again and compare all it made; or go on from it with something changed."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import tracking
from pipeline.config.checks import ENV_MANAGERS
from pipeline.config.job import new_run_id
from pipeline.core import settings
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.results import SUMMARY, StepResult
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.history import equality, recreate, step_files
from pipeline.history.equality import Item
from pipeline.history.records import RunRecord, parse_summary
from pipeline.history.runs import History
from pipeline.orchestration.execution import processes
from pipeline.provenance import origin
from pipeline.steps.context import VARIABLE, StepContext

SHOWN = 5  # packages named in a warning
LARGEST_TABLE = 50_000_000  # bytes; what is larger is compared by its digest alone


def run_again(name: str, env_manager: str | None, tolerance: float) -> bool:
    """Run a run again from its own code, data and environment, print and return the verdict.

    Nothing of it goes into the stores of other runs.

    Args:
        name: the run, see :meth:`pipeline.history.runs.History.find`.
        env_manager: who builds the environments, if not the same as then.
        tolerance: relative difference up to which numbers count as equal.

    Raises:
        PipelineError: something of the run is missing here, or the new one failed.
    """
    history = History()
    run = history.find(name)
    steps, reports = _steps_and_reports(run)
    manager = _env_manager(env_manager, run)
    state = settings.state_dir() / "reproductions" / new_run_id()
    with recreate.code_folder(run) as code:
        config = _config(run, steps, state, manager)
        recreate.pin_data(run, config, again=False)
        locks = {name: step_files.lock(step) for name, step in steps.items()}
        _prepare(code, manager, locks)
        variables = recreate.variables(PIPELINE_STATE_DIR=str(state), WANDB_PROJECT=run.project)
        for artifact in recreate.outside_inputs(steps):
            with recreate.artifact_folder(run, artifact) as files:
                recreate.log_artifact(artifact, files, variables)
        folder = state / "runs" / new_run_id()
        state.mkdir(parents=True, exist_ok=True)
        words = recreate.write_config(config, code, state, folder)
        if processes.launch(code, words, variables):
            begun = (folder / SUMMARY).exists()
            if not begun:  # it was refused
                shutil.rmtree(state)
            raise PipelineError(
                f"run {run.id} could not be made again; the reason is above",
                f"what there is of it: {state}" if begun else "",
            )
    items = compare(history, run, steps, folder, tolerance)
    _print(run, items, reports)
    if all(item.holds for item in items):
        shutil.rmtree(state)
        return True
    say(f"what was made now: {state}")
    return False


def start_from(
    name: str, *, code: str, data: str, changes: list[str], env_manager: str | None
) -> int:
    """Start a run that differs from a recorded one as asked, and is linked to it; its status.

    Args:
        name: the run.
        code: ``recorded`` or ``current``.
        data: ``recorded`` or ``latest``.
        changes: overrides of its configuration.
        env_manager: who builds the environments, if not the same as then.
    """
    recreate.check_overrides(changes)
    run = History().find(name)
    if not run.config:
        raise PipelineError(f"run {run.id} has left no configuration", "start from another one")
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
        recreate.pin_data(run, config, again=True)
    elif data == "latest":
        config["data"]["sha256"] = None
    manager = _env_manager(env_manager, run)
    config["main"] |= {"state_dir": str(state), "env_manager": manager}
    config["main"] |= {"force": False, "explain": False}
    if tracking.choose(config["main"]["tracker"]) != run.tracker:
        config["main"]["tracker"] = run.tracker
    with tempfile.TemporaryDirectory(prefix="config-") as place:
        words = recreate.write_config(config, code, Path(place), folder, changes)
        told = {VARIABLE: StepContext(based_on=run.id).to_json()}
        status = processes.launch(code, words, {**os.environ, **told})
    if not status:
        say(f"run {id} goes on from {run.id}: python -m pipeline diff {run.id} {id}")
    return status


def _steps_and_reports(run: RunRecord) -> tuple[dict[str, StepResult], list[str]]:
    """The steps to make again, and those that made reports alone.

    A report tells of its own run, the commit, the words that were typed and the report before it,
    so another run's is never the same.

    Raises:
        PipelineError: there is nothing that could be compared.
    """
    kind = run.config.get("report", {}).get("artifact_type")
    steps = recreate.results(run)
    reports = [
        name
        for name, step in steps.items()
        if step.outputs and all(output["type"] == kind for output in step.outputs)
    ]
    kept = {name: step for name, step in steps.items() if name not in reports}
    if reports and not kept:
        raise PipelineError(
            f"run {run.id} made nothing but a report, which tells of its own run",
            "reproduce the run that made the model",
        )
    return kept, reports


def _env_manager(wanted: str | None, run: RunRecord) -> str:
    if wanted and wanted not in ENV_MANAGERS:
        raise PipelineError(
            f"unknown --env-manager {wanted!r}{did_you_mean(wanted, ENV_MANAGERS)}",
            f"use one of: {', '.join(ENV_MANAGERS)}",
        )
    return wanted or run.config["main"]["env_manager"]


def _config(
    run: RunRecord, steps: Mapping[str, StepResult], state: Path, env_manager: str
) -> dict[str, Any]:
    """A run's configuration, for a run of the same steps in a state of its own."""
    config = {section: dict(values) for section, values in run.config.items()}
    config["main"] |= {"state_dir": str(state), "tracker": "trackio", "env_manager": env_manager}
    config["main"] |= {"steps": list(steps), "force": True, "explain": False}
    config["main"] |= {"backend": "local", "backend_config": None}
    config["provenance"]["snapshot"] = False
    return config


def _prepare(code: Path, env_manager: str, locks: Mapping[str, list[str]]) -> None:
    """Let each step run with the packages it ran with; with ``local``, say what differs."""
    if env_manager != "local":
        from pipeline.orchestration.execution import environments

        environments.prepare_process()
        for step, lines in locks.items():
            recreate.pin_environment(code / step, lines)
        return
    here = origin.environment_lock()
    changes = {change for lines in locks.values() for change in equality.lock_changes(lines, here)}
    if changes:
        shown = sorted(changes)[:SHOWN]
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        say(f"warning: this environment is not the recorded one: {'; '.join(shown)}{more}")
        say("  --env-manager uv builds the recorded one", flush=True)


def compare(
    history: History,
    run: RunRecord,
    steps: Mapping[str, StepResult],
    folder: Path,
    tolerance: float,
) -> list[Item]:
    """All that a run's steps made, item by item, with what was made of it now.

    Args:
        history: all runs, for those that made what this one handed on.
        run: the run.
        steps: its steps that have results.
        folder: the new run's folder, in the ``runs`` of its state.
        tolerance: see :func:`run_again`.
    """
    path = folder / SUMMARY
    now = parse_summary(path.read_text(encoding="utf-8"), path, folder)
    state = folder.parent.parent
    items: list[Item] = []
    for name, before in steps.items():
        after = now.steps[name]
        items += _artifacts(run, before, after, state, tolerance)
        items += _metrics(before, after, tolerance)
        maker = history.local.get(before.pipeline_run or run.id)
        old = step_files.tables(before, maker and maker.folder)
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
        places = [state / "trackio" / place for place in new[name]["stored"]]
        with recreate.artifact_folder(run, old[name]) as files:
            pair = [_text([*filter(Path.is_file, files.rglob("*"))]), _text(places)]
        if name.endswith(".csv") and None not in pair:
            yield equality.table(before.step, name, *pair, tolerance)
        else:
            how = " -> ".join(digest[:12] for digest in digests)
            yield Item(before.step, name, equality.DIFFERENT, f"digest {how}")


def _text(files: list[Path]) -> str | None:
    """The text of the one file, unless it is too large to be compared cell by cell.

    A table's schema stands beside it; a tracker's own files have no names.
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
    """The verdict, item by item and in all."""
    width = max(len(item.name) for item in items)
    step = None
    for item in items:
        if item.step != step:
            step = item.step
            say(f"\n{step}")
        say(f"  {item.name:<{width}}  {item.outcome}{f': {item.detail}' if item.detail else ''}")
    for name in reports:
        say(f"\n{name}\n  not made again: a report tells of its own run")
    different = sum(not item.holds for item in items)
    equal = sum(item.outcome == equality.EQUAL for item in items)
    if different:
        say(f"\nrun {run.id} was not reproduced: {different} of {len(items)} items differ")
    else:
        within = f", {equal} of them within tolerance" if equal else ""
        say(f"\nrun {run.id} was reproduced: all {len(items)} items are the same{within}")
