"""A sweep and what it has recorded."""

from dataclasses import dataclass

import mlflow
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
