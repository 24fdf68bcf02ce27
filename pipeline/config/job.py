"""What a run knows of itself beside its configuration."""

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.core import settings


@dataclass(frozen=True)
class Job:
    """One run of ``go()``, as Hydra started it.

    Attributes:
        folder: what it leaves behind goes here.
        overrides: the words that were typed, those for Hydra itself left out.
        number: the trial's, in a sweep.
    """

    folder: Path
    overrides: list[str]
    number: int | None = None

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
    return Job(Path(hydra.runtime.output_dir), list(hydra.overrides.task), number)


def new_run_id() -> str:
    """A run's name: when it started (UTC), and six letters that tell it from its neighbours."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


PARENT = "mlflow.parentRunId"


SWEEP, NUMBER, OVERRIDES = "pipeline.sweep", "pipeline.trial", "pipeline.overrides"


recorded: str | None = None  # the MLflow run of the trial that this process is at, once it has one


@dataclass(frozen=True)
class Trial:
    """One set of overrides.

    Attributes:
        sweep: the id of the sweep, and its group in the tracker.
        parent: the sweep's run in MLflow.
        done: whether an earlier start of the same sweep has finished and recorded it.
    """

    sweep: str
    parent: str
    number: int
    overrides: list[str]
    done: bool

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


def trial_of(job: Job) -> Trial | None:
    """The trial that a job is; None for a single run."""
    parent = os.environ.get(settings.SWEEP_RUN)
    if job.number is None or not parent:
        return None
    done = os.environ[settings.SWEEP_DONE].split(",")
    return Trial(
        os.environ[settings.SWEEP], parent, job.number, job.overrides, str(job.number) in done
    )
