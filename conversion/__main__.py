"""``python -m conversion COMMAND`` runs the commands if they are not on the path."""

import click

from conversion import commands

cli = click.Group(
    commands=[value for value in vars(commands).values() if isinstance(value, click.Command)],
    help="Turn notebooks into scripts, DVC stages and steps.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

if __name__ == "__main__":
    cli()
