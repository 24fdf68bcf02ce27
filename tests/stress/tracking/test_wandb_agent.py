"""A sweep of W&B, whose agents run main.py: made and run by W&B's own program."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import shared_workers
from tests.support.paths import ROOT
from tests.support.runs import Checkout, environment
from tests.support.wandb_server import WandbServer

ASKED = """
import json, sys, wandb
sweep = wandb.Api().sweep(sys.argv[1])
best = sweep.best_run()
runs = [[run.id, run.state, run.job_type, run.summary["val_f1"]] for run in sweep.runs]
print(json.dumps([sweep.state, runs, best.id, best.config]))
"""


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running
    assert shared_workers.other_processes() == []


class Agents(Checkout):
    """A folder from which sweeps are made and run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        (self.home / "wandb").mkdir()  # W&B's program has its log there, or among temporary files

    def variables(self, server: WandbServer) -> dict[str, str]:
        own = {"WANDB_DIR": str(self.home), "WANDB_ENTITY": server.entity}
        return environment(self.home, **server.environment(), **own)

    def wandb(self, server: WandbServer, *words: str) -> str:
        """Run W&B's program to its end; all that it has printed."""
        done = subprocess.run(
            [sys.executable, "-m", "wandb", *words],
            cwd=self.home,
            env=self.variables(server),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        return done.stdout

    def sweep(self, server: WandbServer, parameters: dict, **changed: object) -> str:
        """Make the sweep of the documentation, with other parameters, and run an agent."""
        told = yaml.safe_load((ROOT / "examples" / "sweep.yaml").read_text(encoding="utf-8"))
        command = [*told["command"], *map(str, self.words()[1:])]
        program = str(ROOT / "main.py")
        told |= {"method": "grid", "parameters": parameters, "program": program}
        told = {**told, "command": command, **changed}
        told = {key: value for key, value in told.items() if value is not None}
        (self.home / "sweep.yaml").write_text(yaml.safe_dump(told))
        made = self.wandb(server, "sweep", "--project", "pokemon", "sweep.yaml")
        assert "tester/pokemon/sweep0" in made, made
        return self.wandb(server, "agent", "tester/pokemon/sweep0")


def test_an_agent_runs_main_py_with_what_the_sweep_proposes(tmp_path: Path, server: WandbServer):
    """The run of the whole pipeline is the agent's, and has the metric and the parameters."""
    agents, forest = Agents(tmp_path), "model.params.n_estimators"
    told = agents.sweep(
        server, {forest: {"values": [2, 3, 4]}, "model.params.max_depth": {"value": "null"}}
    )
    out = subprocess.check_output(
        [sys.executable, "-c", ASKED, "tester/pokemon/sweep0"],
        env=agents.variables(server),
        cwd=tmp_path,
        text=True,
    )
    state, runs, best, config = json.loads(out.splitlines()[-1])
    assert (state, sorted(run[0] for run in runs)) == ("FINISHED", [f"sweep0run{n}" for n in "012"])
    assert {(state, job) for _, state, job, _ in runs} == {("finished", "pipeline")}, told
    values = {id: value for id, _, _, value in runs}
    assert values[best] == max(values.values())
    assert config[forest] == config["model"]["params"]["n_estimators"]
    given = {run.config[forest]["value"] for run in server.runs.values() if run.sweep}
    assert given == {2, 3, 4}
    steps = [run.job_type for run in server.runs.values() if not run.sweep]
    once = ["1-Download_data", "2-ETL", "3-Split_dataset"]
    assert sorted(steps) == [*once, *["4-Training_model"] * 3]
    assert not server.unanswered


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({}, "error: there is no setting 'max_depth'"),
        ({"command": None}, "error: --max_depth=3 is no override: those have no hyphens"),
    ],
)
def test_a_sweep_that_lacks_the_keys_of_main_py(
    changed: dict, error: str, tmp_path: Path, server: WandbServer
):
    told = Agents(tmp_path).sweep(server, {"max_depth": {"value": 3}}, **changed)
    assert error in told, told
    assert "keys of config.yaml, such as model.params.max_depth" in told
    assert "Traceback" not in told
    assert server.runs == {}


def test_an_agent_whose_runs_are_not_in_wandb(tmp_path: Path):
    done = Checkout(tmp_path).run("main.tracker=trackio", WANDB_SWEEP_ID="abc")
    assert done.status == 1
    assert "a run of W&B's sweep abc, and the tracker is trackio" in done.err
