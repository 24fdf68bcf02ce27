"""A sweep and what it has recorded."""

import contextlib
import re
import subprocess
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


def check_swept(server: WandbServer, trials: int) -> None:
    """In W&B a sweep's runs are finished, and the sweep's own one has the figures and the table."""
    jobs = [run.job_type for run in server.runs.values()]
    assert jobs.count("4-Training_model") == trials
    assert {run.state for run in server.runs.values()} == {"finished"}
    (sweep,) = (run for run in server.runs.values() if run.job_type == "sweep")
    assert {"trials", "optimization_history", "best_val_f1"} <= set(sweep.summary)
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
