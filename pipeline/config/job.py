"""A run's own data beside its configuration: its id, its folder, its trial of a sweep."""

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

PARENT = "mlflow.parentRunId"
SWEEP, NUMBER, OVERRIDES = "pipeline.sweep", "pipeline.trial", "pipeline.overrides"
SWEEP_VARIABLE = "PIPELINE_SWEEP"
EVENTS = "progress.jsonl"  # in a sweep's folder: events of its trials while they run


@dataclass(frozen=True)
class Job:
    """One run of ``go()``, as Hydra started it.

    Attributes:
        folder: the run's output folder.
        overrides: the overrides as typed, without those for Hydra itself.
        number: the trial's number in a sweep; None for a single run.
        choices: the chosen file of each config group: ``{"data": "pokemon"}``.
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
        """The folder's name; for a trial, the name of the sweep's folder and the trial's number."""
        name = self.folder.name
        return f"{self.folder.parent.name}-{name}" if name.isdigit() else name


def current_job() -> Job:
    """The job that Hydra runs now."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    number = hydra.job.num if hydra.mode is RunMode.MULTIRUN else None
    words, choices = raw_overrides(hydra.overrides.task), dict(hydra.runtime.choices)
    return Job(Path(hydra.runtime.output_dir), words, number, choices)


def raw_overrides(overrides: Any) -> list[str]:
    """Hydra's list of overrides as typed: references to variables are not resolved."""
    from omegaconf import OmegaConf

    return cast("list[str]", OmegaConf.to_container(overrides, resolve=False))


def new_run_id() -> str:
    """A new run id: the time (UTC) and six random hexadecimal digits."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


_events: ContextVar[list[dict[str, Any]] | None] = ContextVar("events", default=None)


@contextlib.contextmanager
def collecting_events() -> Iterator[list[dict[str, Any]]]:
    """Collect the events that are reported during the block, instead of writing them to a file.

    For trials on other machines, which have no file in common with the start of the sweep.
    """
    events: list[dict[str, Any]] = []
    token = _events.set(events)
    try:
        yield events
    finally:
        _events.reset(token)


def report_event(sweep: Path, **event: Any) -> None:
    """Report an event to the process that started the sweep; each event has a ``kind``."""
    if (events := _events.get()) is not None:
        events.append(event)
        return
    sweep.mkdir(parents=True, exist_ok=True)
    with (sweep / EVENTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event, default=str) + "\n")  # one write, so that lines don't mix


def warning_reporter(job: Job) -> Callable[[str], None]:
    """The function that reports a trial's warnings to its sweep."""
    return lambda text: report_event(job.folder.parent, kind="warning", text=text)


@dataclass
class Trial:
    """A trial of a sweep: one set of overrides.

    Attributes:
        sweep: the sweep's id, which is its group in the tracker.
        parent: the sweep's run in MLflow.
        number: the trial's number in the sweep.
        overrides: the trial's overrides.
        done: whether an earlier start of the sweep has finished and recorded the trial.
        variables: the libraries' environment variables at the start of the sweep.
        mlflow_run: the trial's run in MLflow, once it has begun.
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
        """The values of the overrides, by key."""
        return parameters(self.overrides)

    def tags(self) -> dict[str, str]:
        """The tags of the trial's MLflow run."""
        return {
            PARENT: self.parent,
            SWEEP: self.sweep,
            NUMBER: str(self.number),
            OVERRIDES: json.dumps(self.overrides),
        }


def parameters(overrides: Iterable[str]) -> dict[str, str]:
    """Overrides by key, with plain values: ``["+a='b c'"]`` becomes ``{"a": "b c"}``."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed_overrides = OverridesParser.create().parse_overrides(list(overrides))
    return {override.key_or_group: _plain(override.value()) for override in parsed_overrides}


def _plain(value: Any) -> str:
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, QuotedString):
        return value.text
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


@dataclass(frozen=True)
class SweepContext:
    """The context that a sweep passes to its trials, as JSON in ``PIPELINE_SWEEP``.

    Attributes:
        id: the sweep's id.
        mlflow_run: the sweep's run in MLflow.
        done: the numbers of the trials that an earlier start has finished.
        variables: the libraries' environment variables at the start of the sweep.
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
        """The context in a mapping of environment variables; None outside of a sweep."""
        text = variables.get(SWEEP_VARIABLE)
        return cls(**json.loads(text)) if text else None

    def trial(self, number: int, overrides: list[str]) -> Trial:
        """The trial with a number."""
        is_done = number in self.done
        return Trial(self.id, self.mlflow_run, number, overrides, is_done, self.variables)


_trial: ContextVar[Trial | None] = ContextVar("trial", default=None)


def begin_trial(job: Job) -> Trial | None:
    """Make a job's trial the :func:`current_trial` and return it; None for a single run."""
    sweep = SweepContext.of(os.environ)
    trial = sweep.trial(job.number, job.overrides) if sweep and job.number is not None else None
    _trial.set(trial)
    return trial


def current_trial(sweep: str, number: int) -> Trial | None:
    """This process's current trial, if it has this sweep and number."""
    trial = _trial.get()
    return trial if trial and (trial.sweep, trial.number) == (sweep, number) else None
