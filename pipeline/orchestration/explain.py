"""Explains which steps a run would execute, and why: ``python main.py explain``."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from pipeline.cache.compare import CurrentState, Parts
from pipeline.config.schema import plain
from pipeline.core.results import Reference, StepResult
from pipeline.core.settings import ROOT
from pipeline.orchestration.execution import workers
from pipeline.orchestration.run import Pipeline
from pipeline.reporting import graph


class Explanation(Pipeline):
    """Looks each step up in the cache as a run does, and runs nothing."""

    def __call__(self, step: str, **parameters: Any) -> StepResult:
        """Tell whether a step would run, and why.

        Args:
            step: the step's folder.
            parameters: its parameters.

        Returns:
            The cached result; without outputs if the step would run.
        """
        values = {key: plain(value) for key, value in parameters.items()}
        parts, current = self._look_up_state(step, values)
        if step not in self.chosen:
            self.screen.explain(step, ["it is not in main.steps"])
            result, reasons = self._skipped(step, current), []
        else:
            result, reasons = self._look_up(step, parts, current)
        self.results[step] = result
        self._show(result)
        self.graph.append(_graph_step(result, values, reasons))
        return result

    def _look_up(
        self, step: str, parts: Parts, current: CurrentState
    ) -> tuple[StepResult, list[str]]:
        result, reasons = self.reuse.explain(step, parts, current)
        if result is None:
            self.screen.explain(step, reasons)
            return StepResult(step, "would run"), reasons
        result.status, result.seconds, result.warnings = "cached", None, []
        return result, []

    def _lock(self, step: str) -> list[str]:
        """The lock of the step's packages; empty if its environment is not built yet."""
        return workers.package_lock(ROOT / step, self.config.main.env_manager) or []

    def __enter__(self) -> Self:
        self.graph: list[graph.Step] = []
        self._open()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.screen.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)  # Hydra's files of this run
        if kind is None:
            _draw.get()(self.screen.console, self.graph)
        self.screen.close()


def _graph_step(result: StepResult, values: Mapping[str, Any], reasons: list[str]) -> graph.Step:
    """A step of the drawing."""
    names = {value for key, value in values.items() if key.endswith("artifact_name") and value}
    versions = {output["name"]: output["version"] for output in result.outputs}
    inputs = [v.partition(":")[0] for v in values.values() if isinstance(v, Reference)]
    outputs = dict.fromkeys(sorted(names - versions.keys()), "") | versions
    return graph.Step(result.step, inputs, outputs, result.status, reasons)


def print_graph(console: Console, steps: Sequence[graph.Step]) -> None:
    """Print the steps and their artifacts below what was said about them."""
    console.print()
    for line in graph.as_text(steps):
        console.print(line, soft_wrap=True)


_draw: ContextVar[Callable[[Console, Sequence[graph.Step]], None]] = ContextVar(
    "draw", default=print_graph
)


@contextlib.contextmanager
def drawing_into(path: Path) -> Iterator[None]:
    """Draw explanations to a file, not in the terminal."""
    token = _draw.set(lambda _, steps: graph.write(steps, path))
    try:
        yield
    finally:
        _draw.reset(token)
