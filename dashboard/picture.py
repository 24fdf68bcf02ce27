"""Draws the pipeline run that a model version comes from."""

from pipeline.core.errors import PipelineError
from pipeline.core.results import StepResult
from pipeline.history.runs import History
from pipeline.models.registry import Version
from pipeline.reporting import graph

TRAINING = "4-Training_model"


def draw(version: Version) -> str:
    """The steps of the version's run and the artifacts between them, as SVG.

    If the run's record is gone, or the step ran alone, the picture has the training step only.
    """
    steps = [_step(result) for result in _results(version) if result.outputs]
    if not steps:
        inputs = [reference.partition(":")[0] for reference, _ in version.data.values()]
        name, _, number = version.artifact.partition(":")
        steps = [graph.Step(TRAINING, inputs, {name: number})]
    return graph.as_svg(steps)


def _results(version: Version) -> list[StepResult]:
    try:
        return [*History().find(version.run).steps.values()] if version.run else []
    except PipelineError:  # the run's record is gone
        return []


def _step(result: StepResult) -> graph.Step:
    outputs = {output["name"]: output["version"] for output in result.outputs}
    return graph.Step(result.step, [used["name"] for used in result.inputs], outputs)
