"""Prints what changed between runs: the commands ``log``, ``show`` and ``diff``."""

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
from pipeline.history import compare
from pipeline.history.compare import LONGEST, SECONDARY, Comparison, classes, digests, windows
from pipeline.history.records import RunRecord
from pipeline.history.reproduction import equality
from pipeline.history.runs import History
from pipeline.history.stored import step_files
from pipeline.provenance import snapshot
from pipeline.provenance.git import EMPTY_TREE, GitError, Repository

FILES = 5  # changed files that are listed
DIGEST = 12  # characters of a digest that are printed


@dataclass(frozen=True)
class Entry:
    """A run and its predecessor.

    Attributes:
        run: the run.
        before: the run that it is based on, else the last finished run before it.
        code: the changed code files.
    """

    run: RunRecord
    before: RunRecord | None
    code: Sequence[str] = ()

    @cached_property
    def parameters(self) -> dict[str, tuple[str, ...]]:
        """The parameters that changed, each with its old and new value."""
        return {name: tuple(texts) for name, texts in self._both.parameters.items()}

    @cached_property
    def data(self) -> dict[str, tuple[str, ...]]:
        """Old and new version of each changed artifact, except models, which always change."""
        return {
            name: tuple(side["version"] if side else ABSENT for side in pair)
            for name, pair in self._both.artifacts.items()
            if len(digests(pair)) > 1 and next(filter(None, pair)).get("type") != "model"
        }

    @cached_property
    def packages(self) -> bool:
        """Whether the packages of a step changed."""
        old, new = (run.steps for run in self._both.runs)
        pairs = [(old[name].environment, new[name].environment) for name in old.keys() & new.keys()]
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)

    @cached_property
    def differences(self) -> dict[str, float]:
        """The difference of each metric that changed."""
        old = self.before.metrics if self.before else {}
        return {
            name: value - old[name]
            for name, value in self.run.metrics.items()
            if old.get(name) not in (None, value)
        }

    @cached_property
    def _both(self) -> Comparison:
        return Comparison([self.before or self.run, self.run])


def entries(experiment: str | None, count: int) -> list[Entry]:
    """The last runs, each with its predecessor.

    Raises:
        PipelineError: There is no run, or the experiment does not exist.
    """
    history = History()
    runs = list(islice(history.runs(experiment), count + 1))
    if not runs:
        raise PipelineError("there is no run yet", "make one: python main.py")
    log_entries = []
    for index, run in enumerate(runs[:count]):
        before = _predecessor(history, run, runs[index + 1 :])
        log_entries.append(Entry(run, before, _files(before, run) if before else []))
    return log_entries


def as_row(entry: Entry) -> dict[str, Any]:
    """An entry's fields in JSON and CSV output."""
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
    """Print runs like ``git log``, each with its changes since its predecessor."""
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
    """The full record of a run, one value per row."""
    code_snapshot = run.summary.get("snapshot") or {}
    fields = {
        "status": run.status,
        "started": run.started.isoformat(timespec="seconds"),
        "developer": run.developer,
        "experiment": run.experiment,
        "project": run.project,
        "tracker": run.tracker,
        "code": _code_line(run, code_snapshot),
        "goes on from": run.summary.get("based_on"),
        "mlflow run": run.mlflow_run,
        "folder": run.folder and str(run.folder),
    }
    rows: list[tuple[str, str, Any]] = [("run", name, value) for name, value in fields.items()]
    for step in run.steps.values():
        rows.append((step.step, "status", _how(run, step.status, step.pipeline_run)))
        for kind, artifacts in (("input", step.inputs), ("output", step.outputs)):
            rows += [
                (step.step, f"{kind} {item['name']}", f"{item['version']} {item['digest']}")
                for item in artifacts
            ]
        rows += [(step.step, name, value) for name, value in step.metrics.items()]
    rows += [("parameters", name, _text(value)) for name, value in run.parameters.items()]
    return [{"section": section, "name": name, "value": value} for section, name, value in rows]


def show(console: Console, run: RunRecord, *, wide: bool = False) -> None:
    """Print the full record of a run; long values are cut unless ``wide``."""
    _head(console, run)
    code_snapshot = run.summary.get("snapshot") or {}
    header = {
        "tracker": f"{run.tracker}, project {run.project}, experiment {run.experiment}",
        "code": _code_line(run, code_snapshot),
        "differs": code_snapshot.get("diff"),
        "folder": run.folder,
        "mlflow": run.mlflow_run,
    }
    for key, value in header.items():
        if value:
            console.print(Text.assemble((f"{key:<8} ", "dim"), str(value)), soft_wrap=True)
    for step in run.steps.values():
        origin = _how(run, step.status, step.pipeline_run)
        console.print(Text.assemble("\n", (step.step, "bold"), f" {origin}"))
        for arrow, artifacts in (("<-", step.inputs), ("->", step.outputs)):
            for artifact in artifacts:
                line = f"  {arrow} {artifact['name']}:{artifact['version']} "
                console.print(Text.assemble(line, (artifact["digest"][:DIGEST], "dim")))
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
    """Print all differences between two runs: parameters, data, metrics, packages and code.

    Raises:
        PipelineError: A run does not exist.
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
    old, new = commits
    if old is not None and new is not None:
        color = "always" if console.is_terminal else "never"
        options = ("--no-ext-diff", "--no-textconv", "--stat", "--patch", f"--color={color}")
        text = Repository(ROOT).run("diff", *options, old, new)
        print(printable(text, colors=True) or "  the same", flush=True)


def _predecessor(history: History, run: RunRecord, older: Sequence[RunRecord]) -> RunRecord | None:
    """The run that ``run`` is based on, else the last finished run before it."""
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
    """Lines about a run: changes of code, parameters, data and packages, and its metrics."""
    if files := entry.code:
        listed = [*files] if wide else [*files[:FILES]]
        omitted = [f"and {len(files) - len(listed)} more"] if len(files) > len(listed) else []
        yield "code", ", ".join(listed + omitted)
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
    """A run's metrics with their changes; metrics that changed come first."""
    items = []
    changes = entry.differences
    for name in sorted(entry.run.metrics, key=lambda name: name not in changes):
        text = Text(f"{name} {number(entry.run.metrics[name])}")
        if change := changes.get(name):
            better = (change < 0) is lower_is_better(name)
            text.append(f" ({difference(change)})", "green" if better else "red")
        items.append(text)
    return items


def _packed(items: Sequence[Text], width: int) -> Text:
    """Join items into lines of at most ``width`` cells; items are not broken."""
    lines = [Text()]
    for item in items:
        if lines[-1] and lines[-1].cell_len + 2 + item.cell_len > width:
            lines.append(Text())
        lines[-1].append("  " if lines[-1] else "").append_text(item)
    return Text("\n").join(lines)


def _files(before: RunRecord, run: RunRecord) -> list[str]:
    """The code files that changed; empty if a commit is missing."""
    old, new = _code(before), _code(run)
    if old is None or new is None:
        return []
    return Repository(ROOT).run("diff", "--name-only", old, new).splitlines()


def _code(run: RunRecord) -> str | None:
    """The snapshot commit of a run or of the runs that it reused; None if not in this clone."""
    maker_ids = {step.pipeline_run for step in run.steps.values() if step.pipeline_run}
    try:
        repository = Repository(ROOT)
    except GitError:
        return None
    ids = [run.id, *sorted(maker_ids, reverse=True)]
    commits = (repository.commit(f"{snapshot.REFS}/{id}") for id in ids)
    return next(filter(None, commits), None)


def _code_line(run: RunRecord, code_snapshot: dict[str, Any]) -> str:
    if code_snapshot:
        parent = code_snapshot["parent"] or EMPTY_TREE
        return f"{code_snapshot['ref']}, based on {parent[:DIGEST]}"
    return f"no snapshot of this run; based on {(run.commit or ABSENT)[:DIGEST]}"


def _packages(before: RunRecord, run: RunRecord) -> Iterator[str]:
    """The packages whose versions differ, by step."""
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
