"""Sweeps: a grid of parameters, the agents that ask for its runs, and the runs that it has.

What is asked and answered: wandb/apis/public/sweeps.py and wandb/wandb_agent.py of the SDK, and
https://docs.wandb.ai/models/sweeps/define-sweep-configuration.
"""

import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.wandb_server.encoding import now
from tests.support.wandb_server.execute import Node, connection

if TYPE_CHECKING:
    from tests.support.wandb_server.runs import Run
    from tests.support.wandb_server.store import Project


class Sweep(Node):
    """A sweep, whose method is always a grid over the values of its parameters."""

    description = display_name = None
    early_stop_job_running = False
    controller = scheduler = None

    def __init__(self, project: "Project", name: str, config: str):
        self.project = project
        self.name = name
        self.id = project.store.add("Sweep", self)
        self.config = config
        self.state = "RUNNING"
        self.created_at = self.updated_at = self.heartbeat_at = now()
        settings = yaml.safe_load(config)
        self.program: str = settings["program"]
        self.method: str = settings["method"]
        self.metric: str = (settings.get("metric") or {}).get("name", "")
        parameters = settings.get("parameters") or {}
        choices = [one["values"] if "values" in one else [one["value"]]
                   for one in parameters.values()]  # fmt: skip
        self._waiting = [dict(zip(parameters, some, strict=True))
                         for some in itertools.product(*choices)]  # fmt: skip
        self.run_count_expected = len(self._waiting)
        self.members: list[Run] = []

    @property
    def run_count(self) -> int:
        """How many runs it has."""
        return len(self.members)

    @property
    def best_loss(self) -> float | None:
        """The best value of its metric, made as large as can be."""
        found = [run.summary[self.metric] for run in self.members if self.metric in run.summary]
        return max(found, default=None)

    def runs(self, **_: Any) -> dict:
        """Its runs."""
        return connection(self.members)

    def next_command(self) -> dict[str, Any]:
        """The next run for an agent that has none; at the end of the grid, to exit."""
        if not self._waiting:
            self.state = "FINISHED"
            return {"type": "exit"}
        given = self._waiting.pop(0)
        return {
            "type": "run",
            "run_id": f"{self.name}run{len(self._waiting)}",
            "program": self.program,
            "args": {name: {"value": value} for name, value in given.items()},
        }


class Agent(Node):
    """A process that asks for the runs of a sweep."""

    typename = "Agent"

    def __init__(self, sweep: Sweep, host: str):
        self.sweep, self.host = sweep, host
        self.id = self.name = sweep.project.store.add("Agent", self)

    def commands(self, running: Mapping[str, bool]) -> str:
        """What it is to do now."""
        return json.dumps([] if running else [self.sweep.next_command()])
