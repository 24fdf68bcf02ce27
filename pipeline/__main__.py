"""``python -m pipeline COMMAND``: what there is to do around runs."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import azure, settings
from pipeline.core.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.models.registry import Promotion


def parser() -> argparse.ArgumentParser:
    """The commands, each with its options and, as ``go``, the function that carries it out."""
    top = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    top.add_argument(
        "--state-dir", metavar="DIR", help="main.state_dir of the runs, if not the default"
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "dashboard", help="serve Trackio's and MLflow's dashboards until Ctrl-C"
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen on")
    command.add_argument(
        "--no-browser", action="store_true", help="print the addresses and open nothing"
    )
    command.set_defaults(go=dashboard)

    command = commands.add_parser("app", help="serve the app of models in use until Ctrl-C")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on")
    command.add_argument("--port", type=int, help="port to listen on (default: a free one)")
    command.add_argument("--no-browser", action="store_true", help="open nothing")
    command.set_defaults(go=app)

    command = commands.add_parser("report", help="open the last report")
    command.add_argument("--no-browser", action="store_true", help="only print where it is")
    command.set_defaults(go=report)

    command = commands.add_parser("verify", help="check every artifact and every finished step")
    command.set_defaults(go=verify)

    command = commands.add_parser("gc", help="remove what no kept run refers to")
    command.add_argument(
        "--keep", type=int, metavar="N", help="keep the last N runs (default: all)"
    )
    command.add_argument("--yes", action="store_true", help="remove it, rather than only show it")
    command.set_defaults(go=gc)

    command = commands.add_parser(
        "sync-to-wandb", help="copy a run from Trackio to W&B; may be repeated"
    )
    command.add_argument("--run", required=True, metavar="ID", help="the run, as main.py prints it")
    command.set_defaults(go=sync_to_wandb)

    command = commands.add_parser(
        "compare", help="what differs between runs: parameters, metrics, data, code"
    )
    command.add_argument(
        "runs", nargs="*", metavar="RUN", help="a run's id, its beginning, or `last`"
    )
    command.add_argument("--best", type=_count, metavar="N", help="the N best runs (10)")
    command.add_argument("--experiment", metavar="NAME", help="only runs of this experiment")
    command.add_argument("--metric", metavar="NAME", help="sort by this, the best first")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="write it to a .csv, .json or .html file"
    )
    command.set_defaults(go=compare)

    _add_records(commands)
    _add_model_commands(commands)
    return top


def _add_records(commands: Any) -> None:
    """The commands on what is recorded of each run."""
    run = {"metavar": "RUN_ID", "help": "as main.py prints it, the beginning of one, or last"}

    command = commands.add_parser(
        "reproduce", help="run a run again and compare; or go on from it with something changed"
    )
    command.add_argument("run", **run)
    command.add_argument(
        "--tolerance",
        type=float,
        default=1e-9,
        metavar="T",
        help="relative difference up to which numbers count as equal (1e-9)",
    )
    command.add_argument(
        "--env-manager", metavar="NAME", help="who builds the environments, if not the same as then"
    )
    command.add_argument(
        "--code",
        choices=["recorded", "current"],
        default="recorded",
        help="current: go on from it with the code as it is now",
    )
    command.add_argument(
        "--data",
        choices=["recorded", "latest"],
        default="recorded",
        help="latest: go on from it with what is at the data's address now",
    )
    command.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="go on from it with these settings",
    )
    command.set_defaults(go=reproduce)

    command = commands.add_parser("log", help="the last runs, and what each of them changed")
    command.add_argument("--experiment", metavar="NAME", help="only runs of this experiment")
    command.add_argument("-n", type=_count, default=20, metavar="N", help="how many (20)")
    command.set_defaults(go=log)

    command = commands.add_parser("show", help="all that is recorded of a run")
    command.add_argument("run", **run)
    command.set_defaults(go=show)

    command = commands.add_parser("diff", help="what differs between two runs, the code included")
    command.add_argument("runs", nargs=2, **run)
    command.set_defaults(go=diff)

    command = commands.add_parser("checkout", help="lay a run's code, data and model out")
    command.add_argument("run", **run)
    command.add_argument(
        "--into", type=Path, required=True, metavar="DIR", help="a folder, new or empty"
    )
    command.set_defaults(go=checkout)


def _count(text: str) -> int:
    """A number of one or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of one or more")
    return int(text)


def _add_model_commands(commands: "argparse._SubParsersAction") -> None:
    """From a trained model to its use."""
    command = commands.add_parser("promote", help="put a model into production, through a gate")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--version", metavar="N", help="a version's number; default: the candidate")
    which.add_argument("--run", metavar="ID", help="the version that a run has made")
    which.add_argument("--best", action="store_true", help="the one that scored best")
    command.add_argument("--to", choices=["production"], default="production", help="its new place")
    command.add_argument("--force", action="store_true", help="even if the gate says no")
    command.add_argument("--why", default="", help="a reason, for the history; --force needs one")
    command.add_argument("settings", nargs="*", help="such as promotion.margin=0.05")
    _model_options(command)
    command.set_defaults(go=promote)

    command = commands.add_parser("rollback", help="put the previous model back into production")
    command.add_argument("--why", default="", help="a reason, for the history")
    _model_options(command)
    command.set_defaults(go=rollback)

    command = commands.add_parser("predict", help="score a CSV file of raw rows")
    command.add_argument("--model", default="production", help="alias or number of a version")
    command.add_argument("--input", required=True, type=Path, metavar="CSV", help="raw rows")
    command.add_argument("--output", required=True, type=Path, metavar="CSV", help="what to write")
    command.add_argument("--sep", help="between cells; default: as in the training data")
    command.add_argument("--encoding", help="of the file; default: as in the training data")
    command.add_argument("--chunk", type=int, metavar="ROWS", help="rows at once")
    _model_options(command)
    command.set_defaults(go=predict)

    command = commands.add_parser("serve", help="serve a model over HTTP until Ctrl-C")
    command.add_argument("--model", default="production", help="alias or number of a version")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on")
    command.add_argument("--port", type=int, default=5001, help="port to listen on")
    command.add_argument(
        "--max-bytes", type=int, default=16_000_000, help="larger requests are refused"
    )
    _model_options(command)
    command.set_defaults(go=serve)


def _model_options(command: argparse.ArgumentParser) -> None:
    """Which registered model is meant, and who builds the environment it runs in."""
    command.add_argument(
        "--name", default=settings.DEFAULT_MODEL, help="model.name (default: %(default)s)"
    )
    command.add_argument(
        "--env-manager",
        choices=["uv", "virtualenv", "local"],
        default="uv",
        help="who builds the model's own environment; local: this one (default: %(default)s)",
    )


def dashboard(args: argparse.Namespace) -> int:
    """Serve the dashboards."""
    from pipeline.tracking.dashboards import serve

    serve(args.host, open_browser=not args.no_browser)
    return 0


def app(args: argparse.Namespace) -> int:
    """Serve the app."""
    from dashboard.launch import run_app

    run_app(args.host, args.port, open_browser=not args.no_browser)
    return 0


def report(args: argparse.Namespace) -> int:
    """Print where the last report is, and open it."""
    import webbrowser

    from pipeline.history.step_files import last_report

    path = last_report()
    print(path)
    if not args.no_browser:
        webbrowser.open(path.as_uri())
    return 0


def verify(args: argparse.Namespace) -> int:
    """Print what is wrong; 1 if anything is."""
    from pipeline.orchestration.maintenance import verify

    problems = verify(settings.state_dir())
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problem(s); a step whose outputs are damaged is run again by itself"
          if problems else "everything is whole")  # fmt: skip
    return 1 if problems else 0


def gc(args: argparse.Namespace) -> int:
    """Show what would go, and remove it if confirmed."""
    from pipeline.orchestration.maintenance import garbage, remove

    found = garbage(settings.state_dir(), args.keep)
    for line in found.lines():
        print(line)
    if not found:
        print("nothing to remove")
    elif args.yes:
        remove(settings.state_dir(), found)
        print("removed")
    else:
        print("nothing has been removed; add --yes to remove this")
    return 0


def sync_to_wandb(args: argparse.Namespace) -> int:
    """Copy a run, and print each step's run and its address as soon as it is there."""
    from pipeline.tracking.sync_to_wandb import sync

    for name, url in sync(args.run):
        print(f"{name}  {url}", flush=True)
    return 0


def compare(args: argparse.Namespace) -> int:
    """Show what differs between runs, or write it to a file."""
    from rich.console import Console

    from pipeline.history import compare, export

    if args.output:
        export.check(args.output)
    found = compare.choose(args.runs, args.best, args.experiment, args.metric)
    if args.output:
        export.write(found, args.output)
        print(args.output)
    else:
        compare.show(found, Console(highlight=False))
    return 0


def promote(args: argparse.Namespace) -> int:
    """Measure a version, print the comparison, and put it into production if it passes."""
    if args.force and not args.why.strip():
        raise PipelineError("--force needs a reason", "add --why 'REASON'; the history keeps it")
    from pipeline.models import gate, promotion, registry

    chosen = gate.gate(args.settings)
    version = promotion.choose(args.name, args.version, args.run, args.best, chosen.metric)
    if registry.PRODUCTION in version.aliases:
        print(f"version {version.number} of {args.name} is in production already")
    else:
        verdict = gate.judge(version, chosen, args.env_manager)
        print("\n".join(verdict.lines()), flush=True)
        _print_promotion(promotion.promote(version, verdict, args.why, args.force))
    return _move_tracker_aliases(args.name)


def rollback(args: argparse.Namespace) -> int:
    """Put the previous version back."""
    from pipeline.models import promotion

    _print_promotion(promotion.rollback(args.name, args.why, args.env_manager))
    return _move_tracker_aliases(args.name)


def predict(args: argparse.Namespace) -> int:
    """Score a file, and say how many rows could not be."""
    from pipeline.models import launch

    if args.chunk is not None and args.chunk < 1:
        raise PipelineError(f"--chunk {args.chunk} is no number of rows", "leave it out: 20000")
    options = {"sep": args.sep, "encoding": args.encoding, "chunk": args.chunk}
    for line in launch.predict(
        args.name, args.model, args.input, args.output, args.env_manager, **options
    ):
        print(line)
    return 0


def serve(args: argparse.Namespace) -> int:
    """Become the model's server."""
    from pipeline.models import launch

    launch.serve(args.name, args.model, args.host, args.port, args.max_bytes, args.env_manager)
    return 0


def _print_promotion(done: "Promotion") -> None:
    was = f"was {done.old}" if done.old else "the first one"
    print(f"version {done.new} is in production ({was}): {done.why}", flush=True)


def _move_tracker_aliases(name: str) -> int:
    from pipeline.models import promotion

    for problem in promotion.move_tracker_aliases(name):
        print(f"warning: the tracker's alias is not moved: {problem}", file=sys.stderr)
    return 0


def reproduce(args: argparse.Namespace) -> int:
    """Compare a run with its repetition, or start one that is linked to it."""
    import signal

    from pipeline.history import reproduce

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidied up after, like Ctrl-C
    if (args.code, args.data, args.changes) == ("recorded", "recorded", []):
        return 0 if reproduce.again(args.run, args.env_manager, args.tolerance) else 1
    return reproduce.go_on(
        args.run,
        code=args.code,
        data=args.data,
        changes=args.changes,
        env_manager=args.env_manager,
    )


def log(args: argparse.Namespace) -> int:
    """Show the last runs."""
    from rich.console import Console

    from pipeline.history import log as history_log

    history_log.log(Console(highlight=False, soft_wrap=True), args.experiment, args.n)
    return 0


def show(args: argparse.Namespace) -> int:
    """Show a run."""
    from rich.console import Console

    from pipeline.history import log as history_log

    history_log.show(Console(highlight=False, soft_wrap=True), args.run)
    return 0


def diff(args: argparse.Namespace) -> int:
    """Show what differs between two runs."""
    from rich.console import Console

    from pipeline.history import log as history_log

    history_log.diff(Console(highlight=False), *args.runs)
    return 0


def checkout(args: argparse.Namespace) -> int:
    """Lay a run out."""
    from pipeline.history.checkout import checkout

    for line in checkout(args.run, args.into):
        print(line)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    args = parser().parse_args(arguments)
    azure.guard_tracebacks()
    if args.state_dir:
        os.environ[settings.STATE_DIR] = args.state_dir
    try:
        return args.go(args)
    except PipelineError as error:
        print(f"error: {error}".replace("\n", "\n  "), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `log | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
