"""The command ``new-step``."""

import click

from pipeline.core.text import say


@click.command("new-step")
@click.argument("name", metavar="6-Name")
@click.option("--after", metavar="STEP", required=True, help="the step whose artifact it reads")
def new_step(name: str, after: str) -> None:
    """Write a step's folder and its test, and print the lines that run it."""
    from pipeline.steps.new_step import begin

    for line in begin(name, after):
        say(line)
