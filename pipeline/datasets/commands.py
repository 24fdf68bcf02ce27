"""The command that configures a new data set."""

import click

from pipeline.core.text import say


@click.command()
@click.argument("source", metavar="FILE|FOLDER|ADDRESS")
@click.option("--target", help="the column to predict; default: proposed")
@click.option("--name", help="the data set's name; default: the file's name")
@click.option("--query", metavar="SQL", help="the query for a database, unless it has ?table=")
@click.option("--table", metavar="NAME", help="the sheet of a workbook, or the file in a zip")
@click.option("--profile/--no-profile", default=True, help="a page about each column, by skrub")
@click.option("--force", is_flag=True, help="overwrite conf/data/NAME.yaml")
def init(
    source: str,
    target: str | None,
    name: str | None,
    query: str | None,
    table: str | None,
    profile: bool,
    force: bool,
) -> None:
    """Inspect a table, and write the configuration that runs it."""
    from pipeline.datasets.init import write_config

    for line in write_config(source, target, name, force, query, table, profile):
        say(line, flush=True)
