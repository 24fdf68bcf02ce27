"""The commands on recorded runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.security import hardening
from pipeline.core.text import say
from pipeline.reporting import tables

if TYPE_CHECKING:
    from rich.console import Console

COUNT = click.IntRange(min=1)


def _runs(context: click.Context, _: click.Parameter, prefix: str) -> list[str]:
    """Shell completion: ids of local runs that begin with ``prefix``, newest first."""
    option = context.find_root().params.get("state_dir")
    folder = Path(option) if option else settings.state_dir()
    summaries = folder.glob("runs/*/summary.json")
    run_ids = sorted((path.parent.name for path in summaries), reverse=True)
    return [name for name in ("last", *run_ids) if name.startswith(prefix)]


@click.command()
@click.option("--experiment", metavar="NAME", help="only runs of this experiment")
@click.option("-n", "count", type=COUNT, default=20, metavar="N", help="how many (20)")
@tables.options
def log(experiment: str | None, count: int, output: tables.Output) -> None:
    """List the last runs and what each of them changed."""
    from pipeline.history import log as history_log

    log_entries = history_log.entries(experiment, count)
    if output.format == "table":
        history_log.log(_console(output), log_entries, wide=output.wide)
    else:
        print(tables.as_text([*map(history_log.as_row, log_entries)], output.format), end="")


@click.command()
@click.argument("run", metavar="RUN_ID", shell_complete=_runs)
@tables.options
def show(run: str, output: tables.Output) -> None:
    """Show the full record of a run."""
    from pipeline.history import log as history_log
    from pipeline.history.runs import History

    record = History().find(run)
    if output.format == "table":
        history_log.show(_console(output), record, wide=output.wide)
    else:
        print(tables.as_text(history_log.details(record), output.format), end="")


@click.command()
@click.argument("runs", nargs=2, metavar="RUN_ID RUN_ID", shell_complete=_runs)
@click.option("--wide", is_flag=True, help="cut nothing, and leave nothing out")
def diff(runs: tuple[str, str], wide: bool) -> None:
    """Show all differences between two runs, including code."""
    from pipeline.history import log as history_log

    history_log.diff(_console(tables.Output(wide=wide)), *runs, wide=wide)


def _console(output: tables.Output) -> "Console":
    from pipeline.orchestration.terminal import WIDEST, PlainConsole

    return PlainConsole(width=WIDEST if output.wide else None)


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...", shell_complete=_runs)
@click.option("--best", type=COUNT, metavar="N", help="the N best runs (10)")
@click.option("--experiment", metavar="NAME", help="only runs of this experiment")
@click.option("--metric", metavar="NAME", help="sort by this, the best first")
@click.option(
    "--output",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="write it to a .csv, .json, .md or .html file",
)
@tables.options
def compare(
    runs: tuple[str, ...],
    best: int | None,
    experiment: str | None,
    metric: str | None,
    file: Path | None,
    output: tables.Output,
) -> None:
    """Compare runs: parameters, metrics, data, code.

    RUN is a run's id, the beginning of an id, or `last`.
    """
    from pipeline.history import compare as comparison
    from pipeline.history import export

    if file:
        export.check(file)
    chosen = comparison.choose(runs, best, experiment, metric)
    if file:
        with hardening.for_the_user():
            export.write(chosen, file)
        say(file)
    elif output.format == "table":
        comparison.show(chosen, _console(output), wide=output.wide)
    else:
        print(export.PRINTED[output.format](chosen), end="")


@click.command()
@click.argument("run", metavar="RUN_ID", shell_complete=_runs)
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--tolerance",
    type=float,
    default=1e-9,
    metavar="T",
    help="relative difference up to which numbers count as equal (1e-9)",
)
@click.option(
    "--env-manager", metavar="NAME", help="what builds the environments (default: as recorded)"
)
@click.option(
    "--code",
    type=click.Choice(["recorded", "current"]),
    default="recorded",
    help="current: start a new run from it with today's code",
)
@click.option(
    "--data",
    type=click.Choice(["recorded", "latest"]),
    default="recorded",
    help="latest: start a new run from it with today's data",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE...",
    help="start a new run from it with these settings",
)
def reproduce(
    run: str,
    more: tuple[str, ...],
    tolerance: float,
    env_manager: str | None,
    code: str,
    data: str,
    changes: tuple[str, ...],
) -> int:
    """Repeat a run and compare; or start a new run from it with changes.

    RUN_ID is the id that main.py prints, its beginning, or `last`.
    """
    from pipeline.core.errors import interrupt_on_signals
    from pipeline.history.reproduction import reproduce as reproduction

    if more and not changes:
        raise click.UsageError(f"unexpected {more[0]!r}: settings follow --set")
    interrupt_on_signals()  # so that temporary folders are removed
    overrides = [*changes, *more]  # one --set takes several settings
    if (code, data, overrides) == ("recorded", "recorded", []):
        return 0 if reproduction.run_again(run, env_manager, tolerance) else 1
    return reproduction.start_from(
        run, code=code, data=data, changes=overrides, env_manager=env_manager
    )


@click.command()
@click.argument("run", metavar="RUN_ID", shell_complete=_runs)
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="a folder, new or empty",
)
def checkout(run: str, into: Path) -> None:
    """Write a run's code, data and model to a folder."""
    from pipeline.history.reproduction.checkout import checkout

    with hardening.for_the_user():
        lines = checkout(run, into)
    for line in lines:
        say(line)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--no-browser", is_flag=True, help="only print the report's path")
@click.option("--model", metavar="ALIAS", help="report on this model version and --input's rows")
@click.argument(
    "options", nargs=-1, metavar="[--input CSV --output HTML ...]", type=click.UNPROCESSED
)
@click.pass_context
def report(
    context: click.Context, no_browser: bool, model: str | None, options: tuple[str, ...]
) -> None:
    """Open the last report; or report on a model and new rows.

    With --model and --input: predictions, metrics and drift, written to --output. Also takes
    the options of predict: --name, --sep, --encoding, --table and --env-manager.
    """
    import webbrowser

    from pipeline.history.stored.step_files import last_report

    if model or options:
        _report_on_rows(context, ["--model", model or "production", *options])
        return
    path = last_report()
    say(path)
    if not no_browser:
        webbrowser.open(path.as_uri())


def _report_on_rows(context: click.Context, options: list[str]) -> None:
    """Call the command of pipeline.models, which this package must not import."""
    group = context.find_root().command
    command = group.get_command(context, "report-rows") if isinstance(group, click.Group) else None
    if command is None:
        raise PipelineError("a report on new rows needs the package pipeline/models", "put it back")
    with command.make_context("report", options, parent=context.find_root()) as report_context:
        command.invoke(report_context)
