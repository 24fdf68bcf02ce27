"""What a run knows of itself beside its configuration."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


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


def current() -> Job:
    """The job that Hydra is at."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    number = hydra.job.num if hydra.mode is RunMode.MULTIRUN else None
    return Job(Path(hydra.runtime.output_dir), list(hydra.overrides.task), number)


def new_run_id() -> str:
    """A run's name: when it started (UTC), and six letters that tell it from its neighbours."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
