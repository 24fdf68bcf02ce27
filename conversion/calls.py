"""The steps that ``go()`` asks for, written down rather than run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from pipeline.config.schema import plain
from pipeline.core.results import Reference, StepResult
from pipeline.orchestration.start import standing_in


@dataclass
class Call(StepResult):
    """A step that was asked for; each artifact that another one asks it for is noted.

    Attributes:
        parameters: what it was given; an input is a :class:`Reference` whose digest is the name
            of the step that makes it.
        asked: the names of the artifacts that later steps take from it.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __getitem__(self, artifact: str) -> Reference:
        """An artifact of the step, whatever its version."""
        if artifact not in self.asked:
            self.asked.append(artifact)
        return Reference(f"{artifact}:?", self.step)

    @property
    def inputs_from(self) -> dict[str, Reference]:
        """Its inputs, by parameter."""
        return {k: v for k, v in self.parameters.items() if isinstance(v, Reference)}

    @property
    def artifacts(self) -> list[str]:
        """The artifacts that it makes: those it is told to name, and those asked for."""
        named = [v for k, v in self.parameters.items() if k.endswith("artifact_name") and v]
        return [*dict.fromkeys([*named, *self.asked])]


class Recorder:
    """Stands in for a run of the pipeline."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}

    def __call__(self, step: str, **parameters: Any) -> Call:
        """Record a call."""
        values = {key: plain(value) for key, value in parameters.items()}
        self.calls[step] = Call(step, "would run", parameters=values)
        return self.calls[step]


def calls(go: Callable, config: DictConfig) -> dict[str, Call]:
    """The steps that ``go`` asks for with a configuration, in order; nothing is run."""
    recorder = Recorder()
    with standing_in(recorder):
        go(config)
    return recorder.calls
