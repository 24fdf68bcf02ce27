"""The context that a step gets from the orchestrator, as JSON in ``PIPELINE_STEP``."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from pipeline.core.errors import PipelineError
from pipeline.provenance import origin

VARIABLE = "PIPELINE_STEP"
BY_MLFLOW = "mlflow:"  # a value of StepContext.report: log the report to the step's MLflow run
REPORT = "report.json"  # the report's name there
HANDED_OVER = "handed_over.json"  # arguments and context of a step on another machine


@dataclass(frozen=True)
class StepContext:
    """The run that a step belongs to; a step that runs alone has the defaults.

    Attributes:
        run_id: the pipeline's run id.
        report: the file for the step's report, or ``BY_MLFLOW``; empty: no report.
        copies: a folder for copies of the artifacts that the step logs.
        commit: the commit of the working tree.
        dirty: whether the working tree differs from that commit.
        snapshot: the commit with the exact code of the run.
        snapshot_ref: the ref of that commit.
        diff: the summary of its difference to ``commit``: ``2 files changed, ...``.
        overrides: the overrides that the results depend on; None: unknown.
        based_on: the run that this run reproduces or continues.
        developer: who started the run; empty: the user of this machine.
        trace: whether to record what the step reads; see :mod:`pipeline.steps.tracing.trace`.
        key: the step's cache key.
        experiment: the experiment of the run; empty: the tracker's group.
        data_set: the file in conf/data.
        model_name: the file in conf/model.
        variables: the environment variables that libraries read, as the user has set them.
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
        """The context as labels of a tracker run, to filter runs in dashboards."""
        values = {
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
            **{key: value for key, value in values.items() if value},
        }

    @classmethod
    def from_environment(cls) -> "StepContext":
        """The context in ``PIPELINE_STEP``, or the defaults.

        Raises:
            PipelineError: the variable holds no context.
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
        """The context as the value of ``PIPELINE_STEP``, without default values.

        So code of an earlier version, started by ``reproduce``, gets no unknown fields.
        """
        defaults = asdict(StepContext())
        return json.dumps(
            {key: value for key, value in asdict(self).items() if value != defaults[key]}
        )
