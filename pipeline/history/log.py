"""What changed from run to run, in the terminal: ``log``, ``show`` and ``diff``."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.core.errors import PipelineError
from pipeline.core.metrics import lower_is_better
from pipeline.core.numbers import ABSENT, difference, number
from pipeline.core.settings import ROOT
from pipeline.core.text import printable
from pipeline.history import compare, equality, step_files
from pipeline.history.compare import LONGEST, Comparison, windows
from pipeline.history.records import RunRecord
from pipeline.history.runs import History
from pipeline.provenance import snapshot
from pipeline.provenance.git import EMPTY_TREE, GitError, Repository

FILES = 5  # changed files that are named
DIGEST = 12  # characters of one that is shown


def log(console: Console, experiment: str | None, count: int) -> None:
    """The last runs as ``git log`` would show them, each with its changes since the one before.

    Raises:
        PipelineError: there is no run, or no such experiment.
    """
    history = History()
    runs = list(islice(history.runs(experiment), count + 1))
    if not runs:
        raise PipelineError("there is no run yet", "make one: python main.py")
    for place, run in enumerate(runs[:count]):
        before = _predecessor(history, run, runs[place + 1 :])
        _head(console, run)
        for kind, lines in _changes(before, run):
            for line in lines:
                console.print(Text.assemble("    ", (f"{kind:<10} ", "dim"), line))
        console.print()


def show(console: Console, name: str) -> None:
    """All that is recorded of a run.

    Raises:
        PipelineError: there is no such run.
    """
    run = History().find(name)
    _head(console, run)
    kept = run.summary.get("snapshot") or {}
    told = {
        "tracker": f"{run.tracker}, project {run.project}, experiment {run.experiment}",
        "code": _code_line(run, kept),
        "differs": kept.get("diff"),
        "folder": run.folder,
        "mlflow": run.mlflow_run,
    }
    for key, value in told.items():
        if value:
            console.print(Text.assemble((f"{key:<8} ", "dim"), str(value)))
    for step in run.steps.values():
        how = _how(run, step.status, step.pipeline_run)
        console.print(Text.assemble("\n", (step.step, "bold"), f" {how}"))
        for arrow, artifacts in (("<-", step.inputs), ("->", step.outputs)):
            for found in artifacts:
                line = f"  {arrow} {found['name']}:{found['version']} "
                console.print(Text.assemble(line, (found["digest"][:DIGEST], "dim")))
        for metric, value in step.metrics.items():
            console.print(Text(f"  {metric} {number(value)}"))
        if step.environment:
            console.print(Text(f"  packages {step.environment[:DIGEST]}", "dim"))
    console.print("\nparameters", style="bold")
    for key, value in run.parameters.items():
        console.print(Text.assemble(f"  {key} ", (_text(value), "dim")))


def diff(console: Console, first: str, second: str) -> None:
    """All that differs between two runs: parameters, data, metrics, packages, and code.

    Raises:
        PipelineError: there is no such run.
    """
    history = History()
    runs = [history.find(first), history.find(second)]
    compare.show(Comparison(runs), console)
    packages = list(_packages(*runs))
    if packages:
        console.print("\npackages that differ", style="bold")
        for line in packages:
            console.print(Text(f"  {line}"))
    console.print("\ncode", style="bold")
    commits = [_code(run) for run in runs]
    for run, commit in zip(runs, commits, strict=True):
        if commit is None:
            console.print(Text(f"  {run.id} is not in this repository: {snapshot.FETCH}"))
    if None not in commits:
        color = "always" if console.is_terminal else "never"
        words = ("--no-ext-diff", "--no-textconv", "--stat", "--patch", f"--color={color}")
        text = Repository(ROOT).run("diff", *words, *commits)
        print(printable(text, colors=True) or "  the same", flush=True)


def _predecessor(history: History, run: RunRecord, older: Sequence[RunRecord]) -> RunRecord | None:
    """The run that a run goes on from, else the last one before it that finished."""
    origin = run.summary.get("based_on")
    if origin in history.local:
        return history.local[origin]
    finished = (other for other in older if other.status == "finished")
    return next(finished, None) or next(iter(older), None)


def _head(console: Console, run: RunRecord) -> None:
    state = "" if run.status == "finished" else f"  {run.status}"
    console.print(Text.assemble((f"run {run.id}", "yellow"), (state, "red")))
    when = run.started.strftime("%Y-%m-%d %H:%M:%S %Z")
    origin = run.summary.get("based_on")
    console.print(Text(f"{when}  {run.developer}  {run.experiment}"))
    if origin:
        console.print(Text(f"goes on from {origin}"))


def _changes(before: RunRecord | None, run: RunRecord) -> Iterator[tuple[str, list[Any]]]:
    """What a run changed, kind by kind: code, parameters, data, packages, and its metrics."""
    if before is None:
        yield "metrics", [_measured(run, None)] if run.metrics else []
        return
    both = Comparison([before, run])
    yield "code", _files(before, run)
    parameters = both.parameters.items()
    yield "parameter", [f"{n} {' -> '.join(windows(texts, LONGEST))}" for n, texts in parameters]
    yield "data", [line for name, pair in both.artifacts.items() for line in _moved(name, *pair)]
    if any(
        step.environment != run.steps[name].environment
        for name, step in before.steps.items()
        if name in run.steps and None not in (step.environment, run.steps[name].environment)
    ):
        yield "packages", [f"see: python -m pipeline diff {before.id} {run.id}"]
    yield "metrics", [_measured(run, before)] if run.metrics else []


def _moved(name: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    """An artifact of another content; models follow from all else."""
    known = old or new or {}
    if (old and new and old["digest"] == new["digest"]) or known.get("type") == "model":
        return []
    return [f"{name} {' -> '.join(side['version'] if side else ABSENT for side in (old, new))}"]


def _measured(run: RunRecord, before: RunRecord | None) -> Text:
    """A run's metrics, each with its change."""
    line = Text()
    for name, value in run.metrics.items():
        line.append(f"{name} {number(value)}")
        old = before.metrics.get(name) if before else None
        if old is not None and old != value:
            better = (value < old) is lower_is_better(name)
            line.append(f" ({difference(value - old)})", "green" if better else "red")
        line.append("  ")
    return line


def _files(before: RunRecord, run: RunRecord) -> list[str]:
    """The files of code that changed, the first few by name."""
    commits = [_code(before), _code(run)]
    if None in commits:
        return []
    names = Repository(ROOT).run("diff", "--name-only", *commits).splitlines()
    more = [f"and {len(names) - FILES} more"] if len(names) > FILES else []
    return [", ".join(names[:FILES] + more)] if names else []


def _code(run: RunRecord) -> str | None:
    """The commit with the code that made a run's results, if this repository has it."""
    makers = {step.pipeline_run for step in run.steps.values() if step.pipeline_run}
    try:
        repository = Repository(ROOT)
    except GitError:
        return None
    found = (repository.commit(f"{snapshot.REFS}/{id}") for id in [run.id, *sorted(makers)[::-1]])
    return next(filter(None, found), None)


def _code_line(run: RunRecord, kept: dict[str, Any]) -> str:
    if kept:
        return f"{kept['ref']}, based on {(kept['parent'] or EMPTY_TREE)[:DIGEST]}"
    return f"not kept with this run; based on {(run.commit or ABSENT)[:DIGEST]}"


def _packages(before: RunRecord, run: RunRecord) -> Iterator[str]:
    """The packages whose versions differ, step by step."""
    for name, old in before.steps.items():
        new = run.steps.get(name)
        if new and None not in (old.environment, new.environment):
            if old.environment == new.environment:
                continue
            for change in equality.lock_changes(step_files.lock(old), step_files.lock(new)):
                yield f"{name}: {change}"


def _how(run: RunRecord, status: str, maker: str | None) -> str:
    return f"{status}, made by {maker}" if maker not in (None, run.id) else status


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
