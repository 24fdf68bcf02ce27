"""What a step's script imports: its argument parser, its run, and the shell around ``go``."""

from pipeline.steps import trace
from pipeline.steps.context import StepContext

if StepContext.from_environment().trace:
    trace.start()  # before what follows is imported, so that it is recorded

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
