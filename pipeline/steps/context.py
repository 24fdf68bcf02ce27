"""What a step is told by the program that starts it: one JSON object in ``PIPELINE_STEP``."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from pipeline.core.errors import PipelineError
from pipeline.provenance import origin

VARIABLE = "PIPELINE_STEP"
BY_MLFLOW = "mlflow:"  # a report that becomes a file of the step's MLflow run, of this name:
REPORT = "report.json"
HANDED_OVER = "handed_over.json"  # in the folder of a step that runs on another machine


@dataclass(frozen=True)
class StepContext:
    """Where a step belongs; a step that runs alone has the defaults.

    Attributes:
        run_id: the pipeline's run.
        report: the file for the step's report, or ``BY_MLFLOW``; empty: nobody reads it.
        copies: a folder in which the step leaves a copy of each artifact it logs.
        commit: the commit of the working tree.
        dirty: whether the working tree differs from that commit.
        snapshot: the commit that keeps the code as it runs.
        snapshot_ref: the ref of that commit.
        diff: by how much it differs from ``commit``: ``2 files changed, ...``.
        overrides: the overrides that decide about the results; None: they are not known.
        based_on: the run from which this one goes on.
        developer: who started the step; empty: the user of this machine.
        trace: whether to record what the step reads; see :mod:`pipeline.steps.trace`.
        key: the digest of what is known of the step before it runs.
        experiment: what the run's results belong to; empty: the tracker's group.
        data_set: the file in conf/data.
        model_name: the file in conf/model.
        variables: the environment variables that libraries go by, as the user has set them.
        trial: whether the run is a trial of a sweep, whose model is no candidate.
    """

    run_id: str = ""
    report: str = ""
    copies: str = ""
    commit: str = ""
    dirty: bool = False
    snapshot: str = ""
    snapshot_ref: str = ""
    diff: str = ""
    overrides: Sequence[str] | None = None
    based_on: str = ""
    developer: str = ""
    trace: bool = False
    key: str = ""
    experiment: str = ""
    data_set: str = ""
    model_name: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    trial: bool = False

    def labels(self) -> dict[str, str]:
        """Where a run belongs, for those who filter runs in the tracker's dashboard."""
        known = {
            "pipeline_run_id": self.run_id,
            "git_commit": self.commit,
            "git_snapshot": self.snapshot,
            "git_ref": self.snapshot_ref,
            "git_dirty": str(self.dirty).lower() if self.commit or self.snapshot else "",
            "git_diff": self.diff,
            "mlflow_run_id": os.environ.get("MLFLOW_RUN_ID", ""),
            "based_on": self.based_on,
            "experiment": self.experiment,
            "data_set": self.data_set,
            "model_name": self.model_name,
        }
        return {
            "developer": self.developer or origin.developer(),
            **{key: value for key, value in known.items() if value},
        }

    @classmethod
    def from_environment(cls) -> "StepContext":
        """The context in ``PIPELINE_STEP``, or the defaults.

        Raises:
            PipelineError: the variable holds something else.
        """
        text = os.environ.get(VARIABLE) or "{}"
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise PipelineError(
                f"{VARIABLE}={text[:80]!r} is not the context of a step: {error}",
                f"unset {VARIABLE}: main.py sets it for its steps",
            ) from error

    def to_json(self) -> str:
        """The context as the value of ``PIPELINE_STEP``; what is as usual is left out.

        So code of an earlier version, which ``reproduce`` starts, meets no field that it lacks.
        """
        usual = asdict(StepContext())
        return json.dumps({key: told for key, told in asdict(self).items() if told != usual[key]})
