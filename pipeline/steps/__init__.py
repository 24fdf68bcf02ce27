"""What a step's script imports: its argument parser, its run, and the shell around ``go``."""

from pipeline.steps.arguments import json_value, optional, parser
from pipeline.steps.run import StepRun
from pipeline.steps.shell import main

__all__ = ["StepRun", "json_value", "main", "optional", "parser"]
