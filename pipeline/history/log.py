"""What changed from run to run, in the terminal: ``log``, ``show`` and ``diff``."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.core.errors import PipelineError
from pipeline.core.metrics import lower_is_better
from pipeline.core.numbers import ABSENT, difference, number
from pipeline.core.settings import ROOT
from pipeline.core.text import printable
from pipeline.history import compare, equality, step_files
from pipeline.history.compare import LONGEST, SECONDARY, Comparison, classes, windows
from pipeline.history.records import RunRecord
from pipeline.history.runs import History
from pipeline.provenance import snapshot
from pipeline.provenance.git import EMPTY_TREE, GitError, Repository

FILES = 5  # changed files that are named
DIGEST = 12  # characters of one that is shown


@dataclass(frozen=True)
class Entry:
    """A run, and the one that it is compared with.

    Attributes:
        run: the run.
        before: the run that it goes on from, else the last one before it that finished.
        code: the files of code that changed.
    """

    run: RunRecord
    before: RunRecord | None
    code: Sequence[str] = ()

    @cached_property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """The parameters that changed: the value before, and the run's."""
        return {name: tuple(texts) for name, texts in self._both.parameters.items()}

    @cached_property
    def data(self) -> dict[str, tuple[str, ...]]:
        """The versions of the artifacts whose content changed; models follow from all else."""
        return {
            name: tuple(side["version"] if side else ABSENT for side in pair)
            for name, pair in self._both.artifacts.items()
            if len({side and side["digest"] for side in pair}) > 1
            and next(filter(None, pair)).get("type") != "model"
        }

    @cached_property
    def packages(self) -> bool:
        """Whether a step ran with other packages."""
        old, new = (run.steps for run in self._both.runs)
        pairs = [(old[name].environment, new[name].environment) for name in old.keys() & new.keys()]
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)

    @cached_property
    def differences(self) -> dict[str, float]:
        """The change of each metric that is another one now."""
        old = self.before.metrics if self.before else {}
        pairs = {name: (old.get(name), value) for name, value in self.run.metrics.items()}
        return {n: new - was for n, (was, new) in pairs.items() if was not in (None, new)}

    @cached_property
    def _both(self) -> Comparison:
        return Comparison([self.before or self.run, self.run])


def entries(experiment: str | None, count: int) -> list[Entry]:
    """The last runs, each with the one that it is compared with.

    Raises:
        PipelineError: there is no run, or no such experiment.
    """
    history = History()
    runs = list(islice(history.runs(experiment), count + 1))
    if not runs:
        raise PipelineError("there is no run yet", "make one: python main.py")
    found = []
    for place, run in enumerate(runs[:count]):
        before = _predecessor(history, run, runs[place + 1 :])
        found.append(Entry(run, before, _files(before, run) if before else []))
    return found


def as_row(entry: Entry) -> dict[str, Any]:
    """An entry for programs."""
    run = entry.run
    return {
        **run.about,
        "goes_on_from": run.summary.get("based_on"),
        "compared_with": entry.before.id if entry.before else None,
        "metrics": run.metrics,
        "differences": entry.differences,
        "code": [*entry.code],
        "parameters": entry.parameters,
        "data": entry.data,
        "packages": entry.packages,
    }


def log(console: Console, entries: Sequence[Entry], *, wide: bool = False) -> None:
    """The last runs as ``git log`` would show them, each with its changes since the one before."""
    for entry in entries:
        _head(console, entry.run)
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        room = console.width - len("    parameter ")
        for kind, line in _changes(entry, room, wide):
            table.add_row(f"    {kind}", line)
        if table.row_count:
            console.print(table)
        console.print()


def details(run: RunRecord) -> list[dict[str, Any]]:
    """All that is recorded of a run, a value a row."""
    kept = run.summary.get("snapshot") or {}
    told = {
        "status": run.status,
        "started": run.started.isoformat(timespec="seconds"),
        "developer": run.developer,
        "experiment": run.experiment,
        "project": run.project,
        "tracker": run.tracker,
        "code": _code_line(run, kept),
        "goes on from": run.summary.get("based_on"),
        "mlflow run": run.mlflow_run,
        "folder": run.folder and str(run.folder),
    }
    rows: list[tuple[str, str, Any]] = [("run", name, value) for name, value in told.items()]
    for step in run.steps.values():
        rows.append((step.step, "status", _how(run, step.status, step.pipeline_run)))
        for kind, artifacts in (("input", step.inputs), ("output", step.outputs)):
            rows += [
                (step.step, f"{kind} {one['name']}", f"{one['version']} {one['digest']}")
                for one in artifacts
            ]
        rows += [(step.step, name, value) for name, value in step.metrics.items()]
    rows += [("parameters", name, _text(value)) for name, value in run.parameters.items()]
    return [{"section": section, "name": name, "value": value} for section, name, value in rows]


def show(console: Console, run: RunRecord, *, wide: bool = False) -> None:
    """All that is recorded of a run; a long value is cut, unless ``wide``."""
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
            console.print(Text.assemble((f"{key:<8} ", "dim"), str(value)), soft_wrap=True)
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
        text = _text(value)
        if not wide:
            [text] = windows([text], max(console.width - len(f"  {key} "), LONGEST))
        console.print(Text.assemble(f"  {key} ", (text, "dim")))


def diff(console: Console, first: str, second: str, *, wide: bool = False) -> None:
    """All that differs between two runs: parameters, data, metrics, packages, and code.

    Raises:
        PipelineError: there is no such run.
    """
    history = History()
    runs = [history.find(first), history.find(second)]
    compare.show(Comparison(runs), console, wide=wide)
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


def _changes(entry: Entry, room: int, wide: bool) -> Iterator[tuple[str, str | Text]]:
    """What a run changed, line by line: code, parameters, data, packages, and its metrics."""
    if files := entry.code:
        few = [*files] if wide else [*files[:FILES]]
        more = [f"and {len(files) - len(few)} more"] if len(files) > len(few) else []
        yield "code", ", ".join(few + more)
    secondary = 0
    for name, texts in entry.parameters.items():
        if wide:
            yield "parameter", f"{name} {' -> '.join(texts)}"
        elif name.startswith(SECONDARY):
            secondary += 1
        else:
            longest = max(LONGEST, (room - len(f"{name}  -> ")) // 2)
            yield "parameter", f"{name} {' -> '.join(windows(classes(texts), longest))}"
    if secondary:
        yield "", f"and {secondary} more: --wide"
    for name, versions in entry.data.items():
        yield "data", f"{name} {' -> '.join(versions)}"
    if entry.before and entry.packages:
        yield "packages", f"see: python -m pipeline diff {entry.before.id} {entry.run.id}"
    if entry.run.metrics:
        yield "metrics", _packed(_measured(entry), room)


def _measured(entry: Entry) -> list[Text]:
    """A run's metrics, each with its change; those that changed come first."""
    found = []
    changes = entry.differences
    for name in sorted(entry.run.metrics, key=lambda name: name not in changes):
        text = Text(f"{name} {number(entry.run.metrics[name])}")
        if change := changes.get(name):
            better = (change < 0) is lower_is_better(name)
            text.append(f" ({difference(change)})", "green" if better else "red")
        found.append(text)
    return found


def _packed(items: Sequence[Text], width: int) -> Text:
    """Items in lines, so many in each as fit; none is broken."""
    lines = [Text()]
    for item in items:
        if lines[-1] and lines[-1].cell_len + 2 + item.cell_len > width:
            lines.append(Text())
        lines[-1].append("  " if lines[-1] else "").append_text(item)
    return Text("\n").join(lines)


def _files(before: RunRecord, run: RunRecord) -> list[str]:
    """The files of code that changed."""
    commits = [_code(before), _code(run)]
    return (
        []
        if None in commits
        else Repository(ROOT).run("diff", "--name-only", *commits).splitlines()
    )


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
