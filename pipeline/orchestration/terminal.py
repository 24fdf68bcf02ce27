"""Displays a run: a live table on a terminal, plain lines elsewhere."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.core.files import last_lines
from pipeline.core.numbers import number
from pipeline.core.results import StepResult
from pipeline.core.text import printable, say

BUILDING = "building environment"
STYLES = {"ran": "green", "cached": "cyan", "failed": "red", "killed": "red", "would run": "yellow"}
# How a metric was measured, by patterns of its key
WAYS = {
    "cv mean": r"cv_(.+)_mean",
    "cv std": r"cv_(.+)_std",
    "validation": r"val_(.+)",
    "test": r"(.+)",
}


WIDEST = 10_000  # width of a table that must not be cut


class PlainConsole(Console):
    """A console without markup, emoji and control characters."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render without control characters."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printable(piece.text), piece.style)

    def on_broken_pipe(self) -> NoReturn:
        """Raise BrokenPipeError, which the main program handles."""
        raise BrokenPipeError


@dataclass
class Row:
    """One step's line in the table."""

    step: str
    state: str = "waiting"
    seconds: float | None = None
    produced: str = ""
    started: float = 0.0
    log: Path | None = None


@dataclass
class Screen:
    """Shows the steps as they run.

    Writes to its own copy of standard output, because a step's output goes to a file.

    Attributes:
        steps: the names of all steps.
        report: reports the warnings of a trial, which displays nothing itself; None: a single run.
        rows: the table's rows, by step.
    """

    steps: list[str]
    report: Callable[[str], None] | None = None
    rows: dict[str, Row] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = {step: Row(step) for step in self.steps}
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        self.console = PlainConsole(file=self._out)
        self._live = Live(
            console=self.console,
            get_renderable=self.table,
            refresh_per_second=8,
            redirect_stdout=False,  # a step's output goes to its log
            redirect_stderr=False,
        )

    @property
    def quiet(self) -> bool:
        """Whether the run is a trial; its sweep shows one line per trial."""
        return self.report is not None

    def __enter__(self) -> "Screen":
        if self.console.is_terminal and not self.quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal and not self.quiet:
            self._live.stop()

    def close(self) -> None:
        """Close the copy of standard output."""
        self._out.close()

    def started(self, step: str, log: Path | None = None) -> None:
        """Show that a step has begun; its output goes to ``log``."""
        row = self.rows[step]
        row.state, row.started, row.log = "running", time.monotonic(), log
        self._line(f"{step}: running")

    def building(self, step: str) -> None:
        """Show that a step's environment is being built."""
        row = self.rows[step]
        row.state, row.started = BUILDING, time.monotonic()
        self._line(f"{step}: {BUILDING}")

    def state(self, step: str, state: str) -> None:
        """Change the state of a step without printing a line."""
        if self.rows[step].state != BUILDING:
            self.rows[step].state = state

    def explain(self, step: str, reasons: list[str]) -> None:
        """Print why a step would or would not run."""
        for reason in reasons:
            self.console.print(f"{step}: {reason}", markup=False, soft_wrap=True)

    def ended(self, step: str, state: str, seconds: float | None, produced: str) -> None:
        """Show the end of a step: ran, cached, failed, killed or skipped."""
        row = self.rows[step]
        row.state, row.seconds, row.produced = state, seconds, produced
        took = "" if seconds is None else f" in {seconds:.1f} s"
        self._line(f"{step}: {state}{took}{'  ' if produced else ''}{produced}")

    def warn(self, message: str) -> None:
        """Show a warning of one line."""
        if self.report:
            self.report(message)
            return
        self.console.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)

    def note(self, message: str) -> None:
        """Show a note of one line about a decision of a step."""
        if not self.quiet:
            self.console.print(f"note: {message}", style="dim", markup=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        if not (self.console.is_terminal or self.quiet):
            say(text, file=self._out, flush=True)

    def table(self) -> Group:
        """The table of the steps: state, seconds so far, and outputs or last line of the log."""
        table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
        table.add_column("step", no_wrap=True, min_width=max(map(len, self.rows)))
        table.add_column("state", no_wrap=True, min_width=len(f"* {BUILDING}"))
        table.add_column("seconds", justify="right", no_wrap=True, min_width=len("seconds"))
        table.add_column("produced", overflow="ellipsis", no_wrap=True, ratio=1)
        for row in self.rows.values():
            running = row.state in (BUILDING, "running")
            seconds = time.monotonic() - row.started if running else row.seconds
            table.add_row(
                row.step,
                Spinner("dots", row.state)
                if running
                else Text(row.state, STYLES.get(row.state, "dim")),
                "" if seconds is None else f"{seconds:.1f}",
                Text(last_line(row.log), "dim") if running else row.produced,
            )
        return Group(table)


def last_line(log: Path | None) -> str:
    """The last line of a running step's log."""
    lines = last_lines(log, 1)
    return lines[0] if lines else ""


def print_result(
    console: Console,
    results: Iterable[StepResult],
    metrics: Mapping[str, float],
    hints: list[str],
) -> None:
    """Print the model's metrics, links and hints after the table."""
    if metrics:
        console.print()
        console.print(_metrics_table(metrics))
    for result in results:
        if result.tracker_url:
            console.print(f"{result.step}  {result.tracker_url}", markup=False, soft_wrap=True)
    console.print()
    for hint in hints:
        console.print(hint, style="dim", markup=False, soft_wrap=True)


def _metrics_table(metrics: Mapping[str, float]) -> Table:
    """A table of metrics with one row per kind of measurement: ``val_f1`` goes below ``f1``.

    With several targets, ``rmse.NAME`` has its own row as well.
    """
    rows: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        matches = ((kind, re.fullmatch(pattern, key)) for kind, pattern in WAYS.items())
        kind, match = next((kind, match) for kind, match in matches if match)
        name, _, target = match[1].partition(".")
        rows.setdefault(f"{kind} {target}".strip(), {})[name] = value
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names if len(rows) == 1 else ("", *names):
        table.add_column(name, justify="right")
    for kind, row in sorted(rows.items()):
        cells = (number(row[name]) if name in row else "" for name in names)
        table.add_row(*cells) if len(rows) == 1 else table.add_row(kind, *cells)
    return table
