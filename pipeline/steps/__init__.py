"""The imports of a step's script: argument parser, run, and the main function around ``go``."""

from pipeline.steps.context import StepContext
from pipeline.steps.tracing import trace

if StepContext.from_environment().trace:
    trace.start()  # first, so that the following imports are recorded

from pipeline.steps.arguments import (
    json_dict,
    json_list,
    json_names,
    json_or_text,
    json_value,
    optional,
    parser,
)
from pipeline.steps.run import Run
from pipeline.steps.shell import main

__all__ = [
    "Run",
    "StepContext",
    "json_dict",
    "json_list",
    "json_names",
    "json_or_text",
    "json_value",
    "main",
    "optional",
    "parser",
]
