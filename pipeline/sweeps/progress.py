"""Shows a sweep's progress: a line for each trial and, on a terminal, a live display.

Trials may run in other processes. Each writes events to one file in the sweep's folder
(:func:`pipeline.config.job.report_event`), and the process that started the sweep reads them.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from rich import progress
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipeline.config.job import EVENTS
from pipeline.core.numbers import number
from pipeline.orchestration.terminal import PlainConsole

POLL = 0.1  # seconds between two reads of the file
NAMED = 8  # running trials that are listed


class Progress:
    """The state of a running sweep, updated by events.

    Args:
        console: where lines and the display are printed.
        total: the number of trials.
        minimized: whether a lower metric is better.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        minimized: bool,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.console, self.minimized = console, minimized
        self.running: set[int] = set()
        self.failed = 0
        self.best: tuple[float, str] | None = None
        self._warned: set[str] = set()
        self._bar = progress.Progress(
            progress.TextColumn("trials"),
            progress.MofNCompleteColumn(),
            progress.BarColumn(bar_width=20),
            progress.TimeElapsedColumn(),
            progress.TextColumn("about"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("left"),
            console=console,
            get_time=clock,
            speed_estimate_period=1e6,  # trials take long: estimate from all of them
        )
        self._task = self._bar.add_task("", total=total)

    def event(self, event: Mapping[str, Any]) -> None:
        """Update the state by an event, and print its line."""
        match event:
            case {"kind": "begun", "trial": trial}:
                self.running.add(trial)
            case {"kind": "ended", "trial": trial, "value": value, "given": given, "took": took}:
                self.running.discard(trial)
                self._bar.advance(self._task)
                text = f"trial {trial}: {given}"
                if error := event.get("error"):
                    self.failed += 1
                    self._line(f"{text}  failed {took}: {error}", "red")
                    return
                self._line(f"{text} -> {_shown(value)} {took}")
                self._compare(value, text)
            case {"kind": "warning", "text": text} if text not in self._warned:
                self._warned.add(text)  # once, although each trial reports it
                self._line(f"warning: {text}", "yellow")
            case {"kind": "note", "text": text}:
                self._line(text)

    def display(self) -> Group:
        """The live display: counts of trials, the time, and the best trial so far."""
        running = sorted(self.running)
        numbers = ", ".join(map(str, running[:NAMED])) + (", …" if len(running) > NAMED else "")
        failures = f"{self.failed} failed" if self.failed else ""
        parts = [f"running: {numbers}" if running else "", failures]
        lines = [Text("   ".join(filter(None, parts)), "dim")]
        if self.best:
            value, text = self.best
            lines.append(Text.assemble(f"best: {number(value)}  ", (text, "green")))
        return Group(self._bar, *lines)

    def _compare(self, value: Any, text: str) -> None:
        if not isinstance(value, int | float):
            return
        sign = -1 if self.minimized else 1
        if self.best is None or sign * value > sign * self.best[0]:
            self.best = (value, text)

    def _line(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=not self.console.is_terminal)


class Watch:
    """Reads the event file of a running sweep in a thread until it is closed.

    It prints to its own copy of standard output, since a running step's output goes to a file.
    """

    def __init__(self, folder: Path, total: int, minimized: bool):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / EVENTS
        path.touch()
        self._file: TextIOWrapper = path.open(encoding="utf-8")
        self._file.seek(0, os.SEEK_END)  # skip events of an earlier start
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
        self._progress = Progress(PlainConsole(file=self._out), total, minimized)
        self._live = Live(
            console=self._progress.console,
            get_renderable=self._progress.display,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        if self._progress.console.is_terminal:
            self._live.start()
        self._thread.start()

    def close(self) -> None:
        """Print the remaining events, and end the display."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._thread.join()
        self._live.stop()
        self._file.close()
        self._out.close()

    def _read(self) -> None:
        ended = False
        while not ended:
            ended = self._ending.wait(POLL)  # once it has ended, read a last time
            while line := self._file.readline():
                while not line.endswith("\n"):  # another process is still writing the line
                    time.sleep(POLL)
                    line += self._file.readline()
                self._progress.event(json.loads(line))


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
