"""What differs between runs: parameters, metrics, data versions and code."""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.core.errors import PipelineError
from pipeline.core.metrics import lower_is_better
from pipeline.core.numbers import ABSENT, difference, number
from pipeline.history.records import RunRecord
from pipeline.history.runs import History

PLACES = {"main.state_dir"}  # where a run was made is no difference of its own
SECONDARY = ("model.cleaning.", "search.space.")  # a copy of etl; what only a sweep reads
SIDE_BY_SIDE = 3  # more runs than these are shown as lines
LONGEST = 36  # characters of a value in the terminal
DOTTED = re.compile(r"[a-z_]\w*(\.\w+)+")  # the path of a class or a function
LONGEST_NAME = 18  # of a developer or an experiment
OTHER_DATA = "not all runs have the first one's test data: only metrics on it are compared"


@dataclass(frozen=True)
class Comparison:
    """Runs, and how each differs from the first.

    Attributes:
        runs: in order; the first is the one that the others are compared with.
        metric: what they are sorted by, if they are.
        note: what is to be said of the choice of runs.
    """

    runs: Sequence[RunRecord]
    metric: str | None = None
    note: str = ""

    @cached_property
    def comparable(self) -> list[bool]:
        """Whether each run was measured on the test data of the first."""
        return [run.test_digest == self.runs[0].test_digest for run in self.runs]

    @cached_property
    def parameters(self) -> dict[str, list[Any]]:
        """The parameters that are not the same in all runs: each run's value as JSON or text."""
        every = [run.parameters for run in self.runs]
        names = dict.fromkeys(name for found in every for name in found if name not in PLACES)
        rows = {name: [_text(found, name) for found in every] for name in names}
        return {name: texts for name, texts in rows.items() if len(set(texts)) > 1}

    @cached_property
    def metrics(self) -> dict[str, list[float | None]]:
        """Each metric's values; the one they are sorted by comes first."""
        names = dict.fromkeys([self.metric] if self.metric else [])
        names |= dict.fromkeys(name for run in self.runs for name in run.metrics)
        return {name: [run.metrics.get(name) for run in self.runs] for name in names}

    def differences(self, metric: str) -> list[float | None]:
        """By how much each run's metric is above the first run's; None on other test data."""
        first, *rest = self.metrics[metric]
        found: list[float | None] = [None]
        for value, same in zip(rest, self.comparable[1:], strict=True):
            found.append(value - first if same and None not in (first, value) else None)
        return found

    @cached_property
    def artifacts(self) -> dict[str, list[dict[str, Any] | None]]:
        """What each run read and made, by name: its version and digest."""
        names = dict.fromkeys(name for run in self.runs for name in run.artifacts)
        return {name: [run.artifacts.get(name) for run in self.runs] for name in names}


def choose(
    names: Iterable[str], best: int | None, experiment: str | None, metric: str | None
) -> Comparison:
    """The runs that were asked for: by name as they come, else the best of an experiment.

    Raises:
        PipelineError: a run, an experiment or a metric that there is not.
    """
    history = History()
    runs = {run.id: run for run in map(history.find, names)}
    if runs and (best or experiment):
        raise PipelineError(
            "both runs and --best or --experiment are given", "give one or the other"
        )
    if not runs:
        metric = metric or _usual_metric(history, experiment)
        found = history.best(metric, best or 10, experiment)
        others = history.count_on_other_data(metric, found[0].test_digest, experiment)
        note = f"{others} runs were measured on other test data and are not ranked"
        return Comparison(found, metric, note if others else "")
    given = Comparison([*runs.values()])
    unlike = "" if all(given.comparable) else OTHER_DATA
    if metric is None:
        return replace(given, note=unlike)
    known = {name for run in runs.values() for name in run.metrics}
    if metric not in known:
        raise PipelineError(
            f"none of these runs has the metric {metric!r}",
            f"measured were: {', '.join(sorted(known)) or 'none'}",
        )
    if unlike:
        return replace(given, note=f"{unlike}; they are not sorted by {metric}")
    sign, last = (1 if lower_is_better(metric) else -1), float("inf")
    order = sorted(runs.values(), key=lambda run: sign * run.metrics.get(metric, sign * last))
    return Comparison(order, metric)


def _usual_metric(history: History, experiment: str | None) -> str:
    """The metric that the newest run with any is about: search.metric, else f1 or r2."""
    for run in islice(history.runs(experiment), 100):
        chosen = [run.parameters.get("search.metric"), "f1", "r2", *run.metrics]
        if found := next((name for name in chosen if name in run.metrics), None):
            return found
    raise PipelineError(
        "there is no run with a metric yet", "make one: python main.py; or name --metric"
    )


def _text(parameters: dict[str, Any], name: str) -> str:
    if name not in parameters:
        return ABSENT
    value = parameters[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show(comparison: Comparison, console: Console, *, wide: bool = False) -> None:
    """Print the comparison, what differs first.

    Args:
        comparison: the runs.
        console: where to; all lines fit its width.
        wide: cut no value and leave no parameter out.
    """
    _print_runs(comparison, console, wide)
    metrics = comparison.metrics.items()
    cells = {
        name: [*map(_measured(name), values, comparison.differences(name))]
        for name, values in sorted(metrics, key=lambda metric: len(set(metric[1])) == 1)
    }
    _print("metrics", cells, console, str)
    if comparison.note:
        console.print(comparison.note, style="yellow", markup=False)
    _print_parameters(comparison, console, wide)
    versions = {
        name: [*map(_version, found)]
        for name, found in comparison.artifacts.items()
        if len({artifact and artifact["digest"] for artifact in found}) > 1
    }
    _print("data that differs", versions, console, str)
    same = [
        f"{name} {_version(found[0])}"
        for name, found in comparison.artifacts.items()
        if name not in versions
    ]
    if same:
        title = "data" if len(comparison.runs) == 1 else "data, the same in all"
        console.print(f"\n{title}", style="bold")
        for line in same:
            console.print(f"  {line}", markup=False, soft_wrap=True)


def _print_parameters(comparison: Comparison, console: Console, wide: bool) -> None:
    rows = comparison.parameters
    shown = rows if wide else {n: t for n, t in rows.items() if not n.startswith(SECONDARY)}
    if not wide:
        few = len(comparison.runs) <= SIDE_BY_SIDE
        room = console.width - max(map(len, shown), default=0) if few else 0
        longest = max(LONGEST, room // len(comparison.runs) - 2)
        shown = {name: windows(classes(texts), longest) for name, texts in shown.items()}
    cells = {name: [*map(Text, texts)] for name, texts in shown.items()}
    _print("parameters that differ", cells, console, _at_last_dot)
    if hidden := len(rows) - len(shown):
        what = " and ".join(f"{name}*" for name in SECONDARY)
        console.print(f"{hidden} more in {what}: --wide", style="dim")


def _print_runs(comparison: Comparison, console: Console, wide: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    lines = [
        [
            str(number),
            run.id if run.status == "finished" else f"{run.id}  {run.status}",
            *windows([run.experiment], len(run.experiment) if wide else LONGEST_NAME),
            *windows([run.developer], len(run.developer) if wide else LONGEST_NAME),
            commit(run),
        ]
        for number, run in enumerate(comparison.runs, 1)
    ]
    for name in ("", "run", "experiment", "developer", "commit"):
        table.add_column(name, no_wrap=name not in ("experiment", "developer"))
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)
    if any(run.dirty for run in comparison.runs):
        console.print("* with changes that were not committed", style="dim")


def commit(run: RunRecord) -> str:
    """The beginning of a run's commit; a star says that the code differed from it."""
    return (run.commit or ABSENT)[:8] + ("*" if run.dirty else "")


def _measured(name: str) -> Callable[[float | None, float | None], Text]:
    """How a metric's value is shown, with its difference."""
    sign = -1 if lower_is_better(name) else 1

    def cell(value: float | None, change: float | None) -> Text:
        text = Text(number(value))
        if change is not None:
            style = "dim" if not change else "green" if sign * change > 0 else "red"
            text.append(" " + difference(change), style)
        return text

    return cell


def _version(artifact: dict[str, Any] | None) -> Text:
    if artifact is None:
        return Text(ABSENT)
    return Text.assemble(artifact["version"], " ", (artifact["digest"][:8], "dim"))


def classes(texts: Sequence[str]) -> list[str]:
    """Dotted paths of classes by their last names, as long as these still differ."""
    names = [text.rpartition(".")[2] if DOTTED.fullmatch(text) else text for text in texts]
    return names if len(set(names)) == len(set(texts)) else list(texts)


def windows(texts: Sequence[str], width: int) -> list[str]:
    """Texts cut to a width, from shortly before the place where they begin to differ."""
    if max(map(len, texts)) <= width:
        return list(texts)
    same = os.path.commonprefix(list(texts))  # noqa: RUF071 - these are no paths
    common = len(same) if len(texts) > 1 else 0
    start = common - 8 if common > width // 2 else 0
    cut = [("…" if start else "") + text[start:] for text in texts]
    return [text if len(text) <= width else f"{text[: width - 1]}…" for text in cut]


def _at_last_dot(name: str) -> str:
    before, dot, last = name.rpartition(".")
    return f"{before}{dot}\n{last}" if dot else last


def _print(
    title: str, items: dict[str, list[Text]], console: Console, header: Callable[[str], str]
) -> None:
    """A section: an item a line for a few runs, a run a line for many."""
    if not items:
        return
    console.print(f"\n{title}", style="bold")
    count = len(next(iter(items.values())))
    numbers = [str(number) for number in range(1, count + 1)]
    if count <= SIDE_BY_SIDE:
        names = ["", *items]
        columns = [
            [number, *(cells[i] for cells in items.values())] for i, number in enumerate(numbers)
        ]
        whole = max(map(len, names)) <= console.width // 2
        console.print(_table(names, columns, whole))
        return
    columns = [[header(name), *cells] for name, cells in items.items()]
    for block in blocks(columns, console.width - 5):
        console.print(_table(["", *numbers], block, True))


def _table(names: list[str], columns: Sequence[list[Any]], whole: bool) -> Table:
    """Columns of cells beside the names of their lines, on one line each if they are ``whole``.

    The first cell of a column is its header.
    """
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(names[0], no_wrap=whole, style="dim", overflow="fold")
    for column in columns:
        table.add_column(column[0], overflow="fold")
    for row in zip(names[1:], *(column[1:] for column in columns), strict=True):
        table.add_row(*row)
    return table


def blocks(columns: Sequence[list[Any]], width: int) -> list[list[list[Any]]]:
    """Columns in groups that fit into a width, in order; each group has at least one."""
    found: list[list[list[Any]]] = []
    room = 0
    for column in columns:
        needs = 2 + max(len(line) for cell in column for line in str(cell).split("\n"))
        if not found or needs > room:
            found.append([])
            room = width
        found[-1].append(column)
        room -= needs
    return found
