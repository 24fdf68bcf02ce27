"""Commands that explain a run, and that check and clean the local state."""

import contextlib
import runpy
import sys
from pathlib import Path

import click

from pipeline.core import settings
from pipeline.core.text import say
from pipeline.reporting import tables


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("overrides", nargs=-1, metavar="[OVERRIDE]...")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="draw it into a .html, .svg or .mmd (Mermaid) file",
)
@click.pass_context
def explain(context: click.Context, overrides: tuple[str, ...], output: Path | None) -> None:
    """Show which steps would run, and why; run nothing.

    OVERRIDE is an override of main.py, such as split.test_size=0.3
    """
    from pipeline.config.overrides import quoted  # loads Hydra
    from pipeline.orchestration.explain import drawing_into
    from pipeline.reporting import graph

    state = context.find_root().params.get("state_dir")
    words = ["explain", *overrides, *([f"main.state_dir={quoted(state)}"] if state else [])]
    if output:
        graph.check(output)
    with drawing_into(output.absolute()) if output else contextlib.nullcontext():
        sys.argv = [str(settings.ROOT / "main.py"), *words]
        runpy.run_path(sys.argv[0], run_name="__main__")
    if output:
        say(output)


@click.command()
def verify() -> int:
    """Check every artifact and every finished step; status 1 if anything is wrong."""
    from pipeline.orchestration import maintenance

    problems = maintenance.verify(settings.state_dir())
    for problem in problems:
        say(problem)
    say(f"{len(problems)} problem(s); a step whose outputs are damaged is run again by itself"
          if problems else "no problems found")  # fmt: skip
    return 1 if problems else 0


@click.command()
@click.option(
    "--keep", type=click.IntRange(min=0), metavar="N", help="keep the last N runs (default: all)"
)
@click.option("--yes", is_flag=True, help="remove it, rather than only show it")
@tables.options
def gc(keep: int | None, yes: bool, output: tables.Output) -> None:
    """Remove what no kept run refers to."""
    from pipeline.orchestration import maintenance

    garbage = maintenance.garbage(settings.state_dir(), keep)
    if output.format != "table":
        print(tables.as_text(garbage.rows(), output.format), end="")
        if yes:
            maintenance.remove(settings.state_dir(), garbage)
        return
    for line in garbage.lines():
        say(line)
    if not garbage:
        say("nothing to remove")
    elif yes:
        state = settings.state_dir()
        before = maintenance.size(state)
        maintenance.remove(state, garbage)
        say(f"removed; {state} has {maintenance.size(state)} (before: {before})")
    else:
        say("nothing has been removed; add --yes to remove this")


@click.command()
def clean() -> None:
    """Remove the state folder: all runs, artifacts, metrics and models."""
    from pipeline.orchestration import maintenance

    removed = maintenance.clean(settings.state_dir())
    say(f"removed {settings.state_dir()}" if removed else "nothing to remove")
