"""A trial of a sweep, as the run of the pipeline that carries it out knows of it."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.types import RunMode

from pipeline import settings

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
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {one.key_or_group: _plain(one.value()) for one in parsed}


def _plain(value: Any) -> str:
    if isinstance(value, QuotedString):
        return value.text
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def current() -> Trial | None:
    """The trial that this process is at; None in a single run."""
    hydra = HydraConfig.get()
    parent = os.environ.get(settings.SWEEP_RUN)
    if hydra.mode is not RunMode.MULTIRUN or not parent:
        return None
    done = os.environ[settings.SWEEP_DONE].split(",")
    number = hydra.job.num
    return Trial(
        os.environ[settings.SWEEP], parent, number, list(hydra.overrides.task), str(number) in done
    )
