"""A sweep and what it has recorded."""

import contextlib
import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass

import mlflow
import psutil
from mlflow.entities import Run

from tests.support.runs import Checkout, Finished
from tests.support.wandb_server import WandbServer


@dataclass
class Swept:
    """Where sweeps are run, and how one has ended."""

    checkout: Checkout
    done: Finished | None = None

    def runs(self) -> list[Run]:
        """All runs in MLflow, in the order of their beginning."""
        client = mlflow.MlflowClient(f"sqlite:///{self.checkout.state / 'mlflow.db'}")
        return client.search_runs(["1"], order_by=["attributes.start_time ASC"])

    def below(self, run: Run) -> list[Run]:
        """The runs whose parent a run is."""
        parent = "mlflow.parentRunId"
        return [r for r in self.runs() if r.data.tags.get(parent) == run.info.run_id]

    def sweeps(self) -> list[Run]:
        """The runs of sweeps."""
        return [run for run in self.runs() if run.data.tags.get("pipeline.kind") == "sweep"]


ASKED = """
import json, wandb
api = wandb.Api()
runs = [
    {
        "name": run.name, "job": run.job_type, "state": run.state, "group": run.group,
        "experiment": run.config["experiment"], "summary": [*run.summary.keys()],
        "used": sorted(artifact.name for artifact in run.used_artifacts()),
        "models": [one.name for one in run.logged_artifacts() if one.type == "model"],
    }
    for run in api.runs("tester/pokemon")
]
versions = api.artifacts("model", "tester/pokemon/model")
print(json.dumps([runs, sorted(alias for one in versions for alias in one.aliases)]))
"""


def check_swept(
    checkout: Checkout, server: WandbServer, trials: int, experiment: str, aliases: list[str]
) -> None:
    """In W&B a sweep leaves one finished run for each step that trials share, and what is theirs.

    Args:
        checkout: where it was run.
        server: the server.
        trials: how many models were trained.
        experiment: the experiment's name, which the trials keep.
        aliases: of all models.
    """
    own = {"WANDB_DIR": str(checkout.state), "WANDB_SILENT": "true", **server.environment()}
    done = checkout.python("-c", ASKED, **own)
    assert done.status == 0, done.err
    runs, named = json.loads(done.out.splitlines()[-1])
    shared = dict.fromkeys(["1-Download_data", "2-ETL", "3-Split_dataset", "sweep"], 1)
    each = dict.fromkeys(["4-Training_model", "pipeline"], trials)
    assert Counter(run["job"] for run in runs) == shared | each
    assert {run["state"] for run in runs} == {"finished"}
    assert {run["experiment"] for run in runs} == {experiment}
    (sweep,) = (run for run in runs if run["job"] == "sweep")
    assert {"trials", "optimization_history", "best_val_f1"} <= set(sweep["summary"])
    id = sweep["name"].removeprefix("sweep-")
    assert {run["group"] for run in runs if id in run["name"]} == {id}
    trained = [run for run in runs if run["job"] == "4-Training_model"]
    assert all(run["used"] == ["test_data.csv:v0", "train_data.csv:v0"] for run in trained)
    models = sorted(model for run in trained for model in run["models"])
    assert models == [f"model:v{number}" for number in range(trials)]
    assert named == aliases
    assert not server.unanswered


def check_shared_workers(process: subprocess.Popen, trials: int) -> str:
    """All trials of a sweep that runs have the worker that it began with; what it prints."""
    seen, lines = [], []
    for line in process.stdout:
        lines.append(line)
        if re.match(r"sweep \S+$|trial \d+: ", line):
            seen.append(_workers_of(psutil.Process(process.pid), "4-Training_model"))
    printed = "".join(lines)
    assert process.wait(120) == 0, printed
    assert len(seen) == 1 + trials
    assert len(seen[0]) == 1
    assert {*map(frozenset, seen[:-1])} == {frozenset(seen[0])}  # later they may have ended
    return printed


def _workers_of(process: psutil.Process, step: str) -> set[int]:
    """The workers of a step below a process."""
    found = {}
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if f"{step}/script.py" in " ".join(child.cmdline()):
                found[child.pid] = child.ppid()
    return {number for number, parent in found.items() if parent not in found}  # that's a step
