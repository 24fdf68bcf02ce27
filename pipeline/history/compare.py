"""Compares runs: parameters, metrics, data versions and code."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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

IGNORED = {"main.state_dir"}  # depends on the machine only
SECONDARY = ("model.cleaning.", "search.space.")  # a copy of etl; keys that only sweeps read
SIDE_BY_SIDE = 3  # up to this many runs are columns; more runs are rows
LONGEST = 36  # characters of a value in the terminal
DOTTED = re.compile(r"[a-z_]\w*(\.\w+)+")  # the path of a class or a function
LONGEST_NAME = 18  # characters of a developer's or an experiment's name
OTHER_DATA = (
    "some runs were measured on other test data than the first run: "
    "their metrics are not compared with it"
)


@dataclass(frozen=True)
class Comparison:
    """Runs and their differences from the first run.

    Attributes:
        runs: the runs in order; the first is the baseline.
        metric: the metric that the runs are sorted by, or None.
        note: a warning about the choice of runs, or an empty string.
    """

    runs: Sequence[RunRecord]
    metric: str | None = None
    note: str = ""

    @cached_property
    def comparable(self) -> list[bool]:
        """Whether each run was measured on the first run's test data."""
        return [run.test_digest == self.runs[0].test_digest for run in self.runs]

    @cached_property
    def parameters(self) -> dict[str, list[Any]]:
        """The parameters that differ: each run's value as JSON or text."""
        parameters = [run.parameters for run in self.runs]
        names = dict.fromkeys(name for run in parameters for name in run if name not in IGNORED)
        rows = {name: [_text(run, name) for run in parameters] for name in names}
        return {name: texts for name, texts in rows.items() if len(set(texts)) > 1}

    @cached_property
    def metrics(self) -> dict[str, list[float | None]]:
        """Each run's value of each metric; the metric that runs are sorted by comes first."""
        names = dict.fromkeys([self.metric] if self.metric else [])
        names |= dict.fromkeys(name for run in self.runs for name in run.metrics)
        return {name: [run.metrics.get(name) for run in self.runs] for name in names}

    def differences(self, metric: str) -> list[float | None]:
        """Each run's metric minus the first run's; None for other test data."""
        first, *values = self.metrics[metric]
        differences: list[float | None] = [None]
        for value, is_comparable in zip(values, self.comparable[1:], strict=True):
            if is_comparable and value is not None and first is not None:
                differences.append(value - first)
            else:
                differences.append(None)
        return differences

    @cached_property
    def artifacts(self) -> dict[str, list[dict[str, Any] | None]]:
        """Each run's artifact of each name, with version and digest."""
        names = dict.fromkeys(name for run in self.runs for name in run.artifacts)
        return {name: [run.artifacts.get(name) for run in self.runs] for name in names}


def digests(artifacts: Iterable[Mapping[str, Any] | None]) -> set[str | None]:
    """The different digests of the runs' artifacts of one name; None for a run without it."""
    return {artifact["digest"] if artifact else None for artifact in artifacts}


def choose(
    names: Iterable[str], best: int | None, experiment: str | None, metric: str | None
) -> Comparison:
    """Select runs by name in the given order, else the best of an experiment.

    Raises:
        PipelineError: A run, an experiment or a metric does not exist.
    """
    history = History()
    runs = {run.id: run for run in map(history.find, names)}
    if runs and (best or experiment):
        raise PipelineError(
            "both runs and --best or --experiment are given", "give one or the other"
        )
    if not runs:
        metric = metric or _usual_metric(history, experiment)
        best_runs = history.best(metric, best or 10, experiment)
        excluded = history.count_on_other_data(metric, best_runs[0].test_digest, experiment)
        note = f"{excluded} runs were measured on other test data and are not ranked"
        return Comparison(best_runs, metric, note if excluded else "")
    comparison = Comparison([*runs.values()])
    warning = "" if all(comparison.comparable) else OTHER_DATA
    if metric is None:
        return replace(comparison, note=warning)
    metric_names = {name for run in runs.values() for name in run.metrics}
    if metric not in metric_names:
        raise PipelineError(
            f"none of these runs has the metric {metric!r}",
            f"available metrics: {', '.join(sorted(metric_names)) or 'none'}",
        )
    if warning:
        return replace(comparison, note=f"{warning}; they are not sorted by {metric}")
    sign, last = (1 if lower_is_better(metric) else -1), float("inf")
    order = sorted(runs.values(), key=lambda run: sign * run.metrics.get(metric, sign * last))
    return Comparison(order, metric)


def _usual_metric(history: History, experiment: str | None) -> str:
    """The main metric of the newest run that has metrics: search.metric, else f1 or r2."""
    for run in islice(history.runs(experiment), 100):
        candidates = [run.parameters.get("search.metric"), "f1", "r2", *run.metrics]
        if metric := next((name for name in candidates if name in run.metrics), None):
            return metric
    raise PipelineError(
        "there is no run with a metric yet", "make one: python main.py; or name --metric"
    )


def _text(parameters: dict[str, Any], name: str) -> str:
    if name not in parameters:
        return ABSENT
    value = parameters[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show(comparison: Comparison, console: Console, *, wide: bool = False) -> None:
    """Print the comparison, differences first.

    Args:
        comparison: the runs.
        console: where to print; lines are cut to its width.
        wide: print all parameters and full values.
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
        name: [*map(_version, artifacts)]
        for name, artifacts in comparison.artifacts.items()
        if len(digests(artifacts)) > 1
    }
    _print("data that differs", versions, console, str)
    unchanged = [
        f"{name} {_version(artifacts[0])}"
        for name, artifacts in comparison.artifacts.items()
        if name not in versions
    ]
    if unchanged:
        title = "data" if len(comparison.runs) == 1 else "data, the same in all"
        console.print(f"\n{title}", style="bold")
        for line in unchanged:
            console.print(f"  {line}", markup=False, soft_wrap=True)


def _print_parameters(comparison: Comparison, console: Console, wide: bool) -> None:
    rows = comparison.parameters
    visible = rows if wide else {n: t for n, t in rows.items() if not n.startswith(SECONDARY)}
    if not wide:
        few = len(comparison.runs) <= SIDE_BY_SIDE
        room = console.width - max(map(len, visible), default=0) if few else 0
        longest = max(LONGEST, room // len(comparison.runs) - 2)
        visible = {name: windows(classes(texts), longest) for name, texts in visible.items()}
    cells = {name: [*map(Text, texts)] for name, texts in visible.items()}
    _print("parameters that differ", cells, console, _at_last_dot)
    if hidden := len(rows) - len(visible):
        prefixes = " and ".join(f"{name}*" for name in SECONDARY)
        console.print(f"{hidden} more in {prefixes}: --wide", style="dim")


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
    """The short hash of a run's commit, with a star if the code had uncommitted changes."""
    return (run.commit or ABSENT)[:8] + ("*" if run.dirty else "")


def _measured(name: str) -> Callable[[float | None, float | None], Text]:
    """A function that formats a value of the metric with its difference."""
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
    """Shorten dotted class paths to class names, unless two names become equal."""
    names = [text.rpartition(".")[2] if DOTTED.fullmatch(text) else text for text in texts]
    return names if len(set(names)) == len(set(texts)) else list(texts)


def windows(texts: Sequence[str], width: int) -> list[str]:
    """Cut texts to a width, starting shortly before their first difference."""
    if max(map(len, texts)) <= width:
        return list(texts)
    common_prefix = os.path.commonprefix(list(texts))  # noqa: RUF071 - these are no paths
    offset = len(common_prefix) if len(texts) > 1 else 0
    start = offset - 8 if offset > width // 2 else 0
    cut = [("…" if start else "") + text[start:] for text in texts]
    return [text if len(text) <= width else f"{text[: width - 1]}…" for text in cut]


def _at_last_dot(name: str) -> str:
    before, dot, last = name.rpartition(".")
    return f"{before}{dot}\n{last}" if dot else last


def _print(
    title: str, items: dict[str, list[Text]], console: Console, header: Callable[[str], str]
) -> None:
    """Print a section: runs as columns if there are few, as rows if there are many."""
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
        fits = max(map(len, names)) <= console.width // 2
        console.print(_table(names, columns, fits))
        return
    columns = [[header(name), *cells] for name, cells in items.items()]
    for block in blocks(columns, console.width - 5):
        console.print(_table(["", *numbers], block, True))


def _table(names: list[str], columns: Sequence[list[Any]], no_wrap: bool) -> Table:
    """A table with row names in its first column; ``no_wrap`` keeps each name on one line.

    The first cell of a column is its header.
    """
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(names[0], no_wrap=no_wrap, style="dim", overflow="fold")
    for column in columns:
        table.add_column(column[0], overflow="fold")
    for row in zip(names[1:], *(column[1:] for column in columns), strict=True):
        table.add_row(*row)
    return table


def blocks(columns: Sequence[list[Any]], width: int) -> list[list[list[Any]]]:
    """Split columns into groups that fit a width; each group has at least one column."""
    groups: list[list[list[Any]]] = []
    room = 0
    for column in columns:
        needed = 2 + max(len(line) for cell in column for line in str(cell).split("\n"))
        if not groups or needed > room:
            groups.append([])
            room = width
        groups[-1].append(column)
        room -= needed
    return groups
