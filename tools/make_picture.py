"""Draw the README's picture of the pipeline: ``python -m tools.make_picture``."""

from collections.abc import Mapping

from hydra import compose, initialize_config_dir

from conversion import dvc_export, step_calls
from pipeline.config import schema
from pipeline.core.settings import ROOT
from pipeline.reporting import graph

PICTURE = ROOT / "docs" / "pipeline.svg"


def picture(steps: Mapping[str, step_calls.Call]) -> str:
    """The SVG of the steps that ``main.py`` calls and the artifacts between them."""
    graph_steps = [
        graph.Step(
            call.step,
            [reference.partition(":")[0] for reference in call.inputs_from.values()],
            dict.fromkeys(call.artifacts, ""),
        )
        for call in steps.values()
    ]
    return graph.as_svg(graph_steps)


if __name__ == "__main__":
    schema.register()
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        steps = step_calls.record_calls(dvc_export.main_function(), compose("config"))
    PICTURE.write_text(picture(steps), encoding="utf-8")
