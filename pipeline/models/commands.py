"""Commands for registered models: promote, rollback, predict, serve."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.text import say

if TYPE_CHECKING:
    from pipeline.models.registry import Promotion

FILE = click.Path(path_type=Path)
ALIASES = ("production", "candidate", "previous")  # for shell completion


def _model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the registered model and its environment."""
    name = click.option(
        "--name", default=settings.DEFAULT_MODEL, show_default=True, help="model.name"
    )
    env_manager = click.option(
        "--env-manager",
        type=click.Choice(["uv", "virtualenv", "local"]),
        default="uv",
        show_default=True,
        help="builds the model's own environment; local: use this one",
    )
    return name(env_manager(command))


_model = click.option(
    "--model",
    default="production",
    show_default=True,
    help="alias or number of a version",
    shell_complete=lambda _, __, beginning: [a for a in ALIASES if a.startswith(beginning)],
)


@click.command()
@click.argument("overrides", nargs=-1, metavar="[promotion.KEY=VALUE]...")
@click.option("--version", metavar="N", help="a version's number; default: the candidate")
@click.option("--run", metavar="ID", help="the version that a run trained")
@click.option("--best", is_flag=True, help="the version with the best metric")
@click.option(
    "--to",
    type=click.Choice(["production"]),
    default="production",
    expose_value=False,
    help="the alias to move",
)
@click.option("--force", is_flag=True, help="promote even if the gate fails")
@click.option("--why", default="", help="a reason, for the history; --force needs one")
@_model_options
def promote(
    overrides: tuple[str, ...],
    version: str | None,
    run: str | None,
    best: bool,
    force: bool,
    why: str,
    name: str,
    env_manager: str,
) -> None:
    """Put a model into production, through a gate."""
    if sum(map(bool, (version, run, best))) > 1:
        raise click.UsageError("give one of --version, --run and --best")
    if force and not why.strip():
        raise PipelineError("--force needs a reason", "add --why 'REASON'; the history keeps it")
    from pipeline.models import gate, promotion, registry

    rules = gate.read(list(overrides))
    candidate = promotion.choose(name, version, run, best, rules.metric)
    if registry.PRODUCTION in candidate.aliases:
        say(f"version {candidate.number} of {name} is in production already")
    else:
        verdict = gate.judge(candidate, rules, env_manager)
        say("\n".join(verdict.lines()), flush=True)
        _print_promotion(promotion.promote(candidate, verdict, why, force))
    _move_tracker_aliases(name, rules.wandb_registry)


@click.command()
@click.argument("overrides", nargs=-1, metavar="[promotion.KEY=VALUE]...")
@click.option("--why", default="", help="a reason, for the history")
@_model_options
def rollback(overrides: tuple[str, ...], why: str, name: str, env_manager: str) -> None:
    """Put the previous model back into production."""
    from pipeline.models import gate, promotion

    rules = gate.read(list(overrides))
    _print_promotion(promotion.rollback(name, why, env_manager))
    _move_tracker_aliases(name, rules.wandb_registry)


def _print_promotion(promotion: "Promotion") -> None:
    before = f"was {promotion.old}" if promotion.old else "the first one"
    say(f"version {promotion.new} is in production ({before}): {promotion.why}", flush=True)


def _move_tracker_aliases(name: str, wandb_registry: str | None) -> None:
    from pipeline.models import promotion

    for problem in promotion.move_tracker_aliases(name, wandb_registry):
        say(f"warning: {problem}", file=sys.stderr)


@click.command()
@_model
@click.option(
    "--input",
    "rows",
    type=FILE,
    required=True,
    metavar="FILE",
    help="raw rows: CSV, Parquet, JSON, a workbook; packed too",
)
@click.option("--output", type=FILE, required=True, metavar="CSV", help="the file to write")
@click.option("--sep", help="the separator of a CSV file; default: as in the training data")
@click.option("--encoding", help="of a CSV file; default: as in the training data")
@click.option("--table", help="a workbook's sheet, or an archive's file; default: its only one")
@click.option("--chunk", type=int, metavar="ROWS", help="rows at once")
@click.option(
    "--safe-for-spreadsheets",
    is_flag=True,
    help="put a ' before each cell that a spreadsheet would run as a formula",
)
@_model_options
def predict(
    model: str,
    rows: Path,
    output: Path,
    sep: str | None,
    encoding: str | None,
    table: str | None,
    chunk: int | None,
    safe_for_spreadsheets: bool,
    name: str,
    env_manager: str,
) -> None:
    """Score a file of raw rows."""
    from pipeline.models import launch

    if chunk is not None and chunk < 1:
        raise PipelineError(f"--chunk {chunk} must be at least 1", "leave it out for 20000 rows")
    options = {"sep": sep, "encoding": encoding, "chunk": chunk}
    options["safe_for_spreadsheets"] = safe_for_spreadsheets or None
    for line in launch.predict(name, model, rows, output, env_manager, table, **options):
        say(line)


@click.command("report-rows", hidden=True)
@_model
@click.option("--input", "rows", type=FILE, required=True)
@click.option("--output", type=FILE, required=True)
@click.option("--sep")
@click.option("--encoding")
@click.option("--table")
@_model_options
def report_rows(
    model: str,
    rows: Path,
    output: Path,
    sep: str | None,
    encoding: str | None,
    table: str | None,
    name: str,
    env_manager: str,
) -> None:
    """Report on new rows; called by ``python -m pipeline report --model``."""
    from pipeline.models import new_data

    for line in new_data.write(name, model, rows, output, env_manager, sep, encoding, table):
        say(line)


@click.command()
@click.argument("overrides", nargs=-1, metavar="[serve.KEY=VALUE]...")
@_model
@click.option("--host", help="address to listen on")
@click.option("--port", type=int, help="port to listen on")
@click.option("--workers", type=int, help="processes that score rows")
@click.option("--max-bytes", type=int, help="bytes in a request's body")
@click.option("--max-rows", type=int, help="rows in a request")
@click.option("--max-columns", type=int, help="columns in a request")
@click.option("--max-connections", type=int, help="connections at once")
@click.option("--timeout", type=float, help="seconds for a request's body, and for scoring it")
@_model_options
def serve(
    overrides: tuple[str, ...], model: str, name: str, env_manager: str, **options: Any
) -> None:
    """Serve a model over HTTP until Ctrl-C; the options' defaults are in conf/serve."""
    from pipeline.models import launch
    from pipeline.models.serving import settings as serving

    overriding = {key: value for key, value in options.items() if value is not None}
    launch.serve(name, model, serving.read(list(overrides), overriding), env_manager)
