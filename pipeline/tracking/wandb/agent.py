"""The W&B run that a user or a sweep agent requests in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.settings import SWEEP_AGENT

# Set by ``wandb agent`` or a user for one W&B run; if steps saw them, all would write to that run.
RUN, RESUME, SWEEP, PARAMETERS = RUN_VARIABLES = (
    "WANDB_RUN_ID",
    "WANDB_RESUME",
    SWEEP_AGENT,
    "WANDB_SWEEP_PARAM_PATH",
)


@dataclass(frozen=True)
class RequestedRun:
    """The requested run; its attributes are empty without a request.

    Attributes:
        id: the run's id.
        sweep: the id of the sweep whose agent has started this process.
        parameters: the values that the sweep proposes, by the sweep's keys.
    """

    id: str = ""
    sweep: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "RequestedRun":
        """Read the request from environment variables."""
        parameters = {}
        if variables.get(SWEEP) and (path := variables.get(PARAMETERS)):
            import yaml  # no step reads it

            content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
            entries = {key: entry for key, entry in content.items() if isinstance(entry, Mapping)}
            parameters = {key: entry["value"] for key, entry in entries.items() if "value" in entry}
        return cls(variables.get(RUN, ""), variables.get(SWEEP, ""), parameters)
