"""What a run knows of itself beside its configuration."""

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

PARENT = "mlflow.parentRunId"
SWEEP, NUMBER, OVERRIDES = "pipeline.sweep", "pipeline.trial", "pipeline.overrides"
SWEEP_VARIABLE = "PIPELINE_SWEEP"
EVENTS = "progress.jsonl"  # in a sweep's folder: what its trials tell while they run


@dataclass(frozen=True)
class Job:
    """One run of ``go()``, as Hydra started it.

    Attributes:
        folder: what it leaves behind goes here.
        overrides: the words that were typed, those for Hydra itself left out.
        number: the trial's, in a sweep.
        choices: the file of each config group: ``{"data": "pokemon"}``.
    """

    folder: Path
    overrides: list[str]
    number: int | None = None
    choices: Mapping[str, str] = field(default_factory=dict)

    @property
    def sweep(self) -> bool:
        """Whether this is a trial of a sweep."""
        return self.number is not None

    @property
    def id(self) -> str:
        """A run is named after its folder; a trial after the sweep's folder and its number."""
        name = self.folder.name
        return f"{self.folder.parent.name}-{name}" if name.isdigit() else name


def current_job() -> Job:
    """The job that Hydra is at."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    number = hydra.job.num if hydra.mode is RunMode.MULTIRUN else None
    words, choices = raw_overrides(hydra.overrides.task), dict(hydra.runtime.choices)
    return Job(Path(hydra.runtime.output_dir), words, number, choices)


def raw_overrides(overrides: Any) -> list[str]:
    """The words of a list of Hydra's as they were typed: a variable that one names stays a name."""
    from omegaconf import OmegaConf

    return cast("list[str]", OmegaConf.to_container(overrides, resolve=False))


def new_run_id() -> str:
    """A run's name: when it started (UTC), and six letters that tell it from its neighbours."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def report_event(sweep: Path, **event: Any) -> None:
    """Let the process that began a sweep know of something; each event has a ``kind``."""
    sweep.mkdir(parents=True, exist_ok=True)
    with (sweep / EVENTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event, default=str) + "\n")  # in one piece


def warning_reporter(job: Job) -> Callable[[str], None]:
    """What tells a trial's warnings to its sweep."""
    return lambda text: report_event(job.folder.parent, kind="warning", text=text)


@dataclass
class Trial:
    """One set of overrides.

    Attributes:
        sweep: the id of the sweep, and its group in the tracker.
        parent: the sweep's run in MLflow.
        done: whether an earlier start of the same sweep has finished and recorded it.
        variables: the environment variables that libraries go by, as the sweep was started with.
        mlflow_run: its own run in MLflow, once it has begun.
    """

    sweep: str
    parent: str
    number: int
    overrides: list[str]
    done: bool
    variables: Mapping[str, str] = field(default_factory=dict)
    mlflow_run: str | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """What was set, by key."""
        return parameters(self.overrides)

    def tags(self) -> dict[str, str]:
        """What tells, on its MLflow run, where it belongs."""
        return {
            PARENT: self.parent,
            SWEEP: self.sweep,
            NUMBER: str(self.number),
            OVERRIDES: json.dumps(self.overrides),
        }


def parameters(overrides: Iterable[str]) -> dict[str, str]:
    """Overrides by key, their values in plain text: ``["+a='b c'"]`` is ``{"a": "b c"}``."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {one.key_or_group: _plain(one.value()) for one in parsed}


def _plain(value: Any) -> str:
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, QuotedString):
        return value.text
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


@dataclass(frozen=True)
class SweepContext:
    """What a sweep tells its trials: one JSON object in ``PIPELINE_SWEEP``.

    Attributes:
        id: the sweep's id.
        mlflow_run: the sweep's run in MLflow.
        done: the numbers of the trials that an earlier start has finished.
        variables: the environment variables that libraries go by, as the sweep was started with.
    """

    id: str
    mlflow_run: str
    done: Sequence[int] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The context as the value of ``PIPELINE_SWEEP``."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "SweepContext | None":
        """The context that is among environment variables; None outside of a sweep."""
        text = variables.get(SWEEP_VARIABLE)
        return cls(**json.loads(text)) if text else None

    def trial(self, number: int, overrides: list[str]) -> Trial:
        """The trial with a number."""
        done = number in self.done
        return Trial(self.id, self.mlflow_run, number, overrides, done, self.variables)


_trial: ContextVar[Trial | None] = ContextVar("trial", default=None)


def begin_trial(job: Job) -> Trial | None:
    """The trial that a job is, from now on :func:`current_trial`; None for a single run."""
    sweep = SweepContext.of(os.environ)
    found = sweep.trial(job.number, job.overrides) if sweep and job.number is not None else None
    _trial.set(found)
    return found


def current_trial(sweep: str, number: int) -> Trial | None:
    """The trial that has begun last here, if it is this one."""
    trial = _trial.get()
    return trial if trial and (trial.sweep, trial.number) == (sweep, number) else None
