"""A trial of a sweep, as the run of the pipeline that carries it out knows of it."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline import settings
from pipeline.job import Job

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


def of(job: Job) -> Trial | None:
    """The trial that a job is; None for a single run."""
    parent = os.environ.get(settings.SWEEP_RUN)
    if not job.sweep or not parent:
        return None
    done = os.environ[settings.SWEEP_DONE].split(",")
    return Trial(
        os.environ[settings.SWEEP], parent, job.number, job.overrides, str(job.number) in done
    )
