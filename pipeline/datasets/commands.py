"""The command that begins with a table of one's own."""

import click

from pipeline.core.text import say


@click.command()
@click.argument("source", metavar="FILE|FOLDER|ADDRESS")
@click.option("--target", help="the column to predict, by its title or name; default: proposed")
@click.option("--name", help="of the data set; default: the file's")
@click.option("--query", metavar="SQL", help="what to ask a database, unless ?table= is there")
@click.option("--table", metavar="NAME", help="the sheet of a workbook, or the file in a zip")
@click.option("--profile/--no-profile", default=True, help="a page about each column, by skrub")
@click.option("--force", is_flag=True, help="write over conf/data/NAME.yaml")
def init(
    source: str,
    target: str | None,
    name: str | None,
    query: str | None,
    table: str | None,
    profile: bool,
    force: bool,
) -> None:
    """Look at a table, and write the configuration that runs it."""
    from pipeline.datasets.init import begin

    for line in begin(source, target, name, force, query, table, profile):
        say(line, flush=True)
