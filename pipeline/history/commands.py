"""The commands on recorded runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.core import hardening, settings
from pipeline.core.errors import PipelineError
from pipeline.core.text import say
from pipeline.reporting import tables

if TYPE_CHECKING:
    from rich.console import Console

COUNT = click.IntRange(min=1)


def _runs(context: click.Context, _: click.Parameter, beginning: str) -> list[str]:
    """The runs made here whose ids begin so, the newest first: what a shell completes."""
    given = context.find_root().params.get("state_dir")
    folder = Path(given) if given else settings.state_dir()
    found = sorted((path.parent.name for path in folder.glob("runs/*/summary.json")), reverse=True)
    return [name for name in ("last", *found) if name.startswith(beginning)]


@click.command()
@click.option("--experiment", metavar="NAME", help="only runs of this experiment")
@click.option("-n", "count", type=COUNT, default=20, metavar="N", help="how many (20)")
@tables.options
def log(experiment: str | None, count: int, output: tables.Output) -> None:
    """The last runs, and what each of them changed."""
    from pipeline.history import log as history_log

    entries = history_log.entries(experiment, count)
    if output.format == "table":
        history_log.log(_console(output), entries, wide=output.wide)
    else:
        print(tables.as_text([*map(history_log.as_row, entries)], output.format), end="")


@click.command()
@click.argument("run", metavar="RUN_ID", shell_complete=_runs)
@tables.options
def show(run: str, output: tables.Output) -> None:
    """All that is recorded of a run."""
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
    """What differs between two runs, the code included."""
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
    """What differs between runs: parameters, metrics, data, code.

    RUN is a run's id, its beginning, or `last`.
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
    "--env-manager", metavar="NAME", help="who builds the environments, if not the same as then"
)
@click.option(
    "--code",
    type=click.Choice(["recorded", "current"]),
    default="recorded",
    help="current: go on from it with the code as it is now",
)
@click.option(
    "--data",
    type=click.Choice(["recorded", "latest"]),
    default="recorded",
    help="latest: go on from it with what is at the data's address now",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE...",
    help="go on from it with these settings",
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
    """Run a run again and compare; or go on from it with something changed.

    RUN_ID is as main.py prints it, the beginning of one, or `last`.
    """
    from pipeline.core.errors import interrupt_on_signals
    from pipeline.history import reproduce as reproduction

    if more and not changes:
        raise click.UsageError(f"unexpected {more[0]!r}: settings follow --set")
    interrupt_on_signals()  # it is tidied up after
    settings = [*changes, *more]  # all words behind one --set
    if (code, data, settings) == ("recorded", "recorded", []):
        return 0 if reproduction.run_again(run, env_manager, tolerance) else 1
    return reproduction.start_from(
        run, code=code, data=data, changes=settings, env_manager=env_manager
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
    """Lay a run's code, data and model out."""
    from pipeline.history.checkout import checkout

    with hardening.for_the_user():
        lines = checkout(run, into)
    for line in lines:
        say(line)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--no-browser", is_flag=True, help="only print where it is")
@click.option("--model", metavar="ALIAS", help="a version: report on it and rows of --input")
@click.argument(
    "options", nargs=-1, metavar="[--input CSV --output HTML ...]", type=click.UNPROCESSED
)
@click.pass_context
def report(
    context: click.Context, no_browser: bool, model: str | None, options: tuple[str, ...]
) -> None:
    """Open the last report; or report on a model and new rows.

    With --model and --input: predictions, what came true, and drift, written to --output. Further
    options are those of predict: --name, --sep, --encoding, --table and --env-manager.
    """
    import webbrowser

    from pipeline.history.step_files import last_report

    if model or options:
        _report_on_rows(context, ["--model", model or "production", *options])
        return
    path = last_report()
    say(path)
    if not no_browser:
        webbrowser.open(path.as_uri())


def _report_on_rows(context: click.Context, options: list[str]) -> None:
    """Call the command of the models' package, which this one does not know."""
    group = context.find_root().command
    command = group.get_command(context, "report-rows") if isinstance(group, click.Group) else None
    if command is None:
        raise PipelineError("a report on new rows needs the package pipeline/models", "put it back")
    with command.make_context("report", options, parent=context.find_root()) as inner:
        command.invoke(inner)
