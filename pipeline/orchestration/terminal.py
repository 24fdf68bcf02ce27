"""What a run looks like: a live table on a terminal, plain lines elsewhere."""

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
# How a metric was measured, and what it is then called
WAYS = {
    "cv mean": r"cv_(.+)_mean",
    "cv std": r"cv_(.+)_std",
    "validation": r"val_(.+)",
    "test": r"(.+)",
}


WIDEST = 10_000  # columns of a table that is not to be cut


class PlainConsole(Console):
    """A console for which text is text: no markup, no emoji, and no control characters."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Whatever is printed, as the pieces that the terminal gets."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printable(piece.text), piece.style)

    def on_broken_pipe(self) -> NoReturn:
        """Let the program end as it does wherever else its reader goes away."""
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

    It writes to its own copy of standard output, for a running step's output goes to a file.

    Attributes:
        tell: what a trial of a sweep does with a warning; it shows nothing by itself.
    """

    steps: list[str]
    tell: Callable[[str], None] | None = None
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
        """Whether only warnings are of interest; a sweep has a line for each trial instead."""
        return self.tell is not None

    def __enter__(self) -> "Screen":
        if self.console.is_terminal and not self.quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal and not self.quiet:
            self._live.stop()

    def close(self) -> None:
        """Give the copy of standard output back."""
        self._out.close()

    def started(self, step: str, log: Path | None = None) -> None:
        """A step begins; its output goes to ``log``."""
        row = self.rows[step]
        row.state, row.started, row.log = "running", time.monotonic(), log
        self._line(f"{step}: running")

    def building(self, step: str) -> None:
        """A step's environment is being built."""
        row = self.rows[step]
        row.state, row.started = BUILDING, time.monotonic()
        self._line(f"{step}: {BUILDING}")

    def state(self, step: str, state: str) -> None:
        """A step changes its state without a line of its own."""
        if self.rows[step].state != BUILDING:
            self.rows[step].state = state

    def explain(self, step: str, reasons: list[str]) -> None:
        """Why a step would run, or not."""
        for reason in reasons:
            self.console.print(f"{step}: {reason}", markup=False, soft_wrap=True)

    def ended(self, step: str, state: str, seconds: float | None, produced: str) -> None:
        """A step ends in one of the states ran, cached, failed, killed or skipped."""
        row = self.rows[step]
        row.state, row.seconds, row.produced = state, seconds, produced
        took = "" if seconds is None else f" in {seconds:.1f} s"
        self._line(f"{step}: {state}{took}{'  ' if produced else ''}{produced}")

    def warn(self, message: str) -> None:
        """One line that the user should see."""
        if self.tell:
            self.tell(message)
            return
        self.console.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)

    def note(self, message: str) -> None:
        """One line about what a step has decided."""
        if not self.quiet:
            self.console.print(f"note: {message}", style="dim", markup=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        if not (self.console.is_terminal or self.quiet):
            say(text, file=self._out, flush=True)

    def table(self) -> Group:
        """The steps: their states, how long each took or has taken so far, what it produced."""
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
    """The last thing that a running step said."""
    lines = last_lines(log, 1)
    return lines[0] if lines else ""


def print_result(
    console: Console,
    results: Iterable[StepResult],
    metrics: Mapping[str, float],
    hints: list[str],
) -> None:
    """After the table: the model's metrics, links, and where to look next."""
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
    """A row for each way of measuring, where there are several: ``val_f1`` goes below ``f1``.

    So does ``rmse.NAME``, that of one of several targets.
    """
    rows: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        way = next(way for way, named in WAYS.items() if re.fullmatch(named, key))
        name, _, target = re.fullmatch(WAYS[way], key)[1].partition(".")
        rows.setdefault(f"{way} {target}".strip(), {})[name] = value
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names if len(rows) == 1 else ("", *names):
        table.add_column(name, justify="right")
    for way, row in sorted(rows.items()):
        cells = (number(row[name]) if name in row else "" for name in names)
        table.add_row(*cells) if len(rows) == 1 else table.add_row(way, *cells)
    return table
