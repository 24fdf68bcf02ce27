"""Records the steps that ``go()`` calls, without running them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from pipeline.config.schema import plain
from pipeline.core.results import Reference, StepResult
from pipeline.orchestration.start import standing_in


@dataclass
class Call(StepResult):
    """A recorded call of a step.

    Attributes:
        parameters: its parameters; an input is a :class:`Reference` whose digest is the name of the
            step that makes it.
        read_artifacts: the names of its artifacts that later steps read.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    read_artifacts: list[str] = field(default_factory=list)

    def __getitem__(self, artifact: str) -> Reference:
        """A reference to an artifact of the step, without a version; records the name."""
        if artifact not in self.read_artifacts:
            self.read_artifacts.append(artifact)
        return Reference(f"{artifact}:?", self.step)

    @property
    def inputs_from(self) -> dict[str, Reference]:
        """Its input artifacts, by parameter."""
        return {k: v for k, v in self.parameters.items() if isinstance(v, Reference)}

    @property
    def artifacts(self) -> list[str]:
        """Names of its output artifacts: in its parameters, and those that later steps read."""
        outputs = [v for k, v in self.parameters.items() if k.endswith("artifact_name") and v]
        return [*dict.fromkeys([*outputs, *self.read_artifacts])]


class Recorder:
    """Replaces a run of the pipeline, and records the calls of steps."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}

    def __call__(self, step: str, **parameters: Any) -> Call:
        """Record a call."""
        values = {key: plain(value) for key, value in parameters.items()}
        self.calls[step] = Call(step, "would run", parameters=values)
        return self.calls[step]


def record_calls(go: Callable, config: DictConfig) -> dict[str, Call]:
    """The steps that ``go`` calls with a configuration, in order; nothing is run."""
    recorder = Recorder()
    with standing_in(recorder):
        go(config)
    return recorder.calls
