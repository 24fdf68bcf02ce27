"""``python -m pipeline COMMAND``: what there is to do around runs."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from pipeline import settings
from pipeline.errors import PipelineError


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


def dashboard(args: argparse.Namespace) -> int:
    """Serve the dashboards."""
    from pipeline.dashboards import serve

    serve(args.host, open_browser=not args.no_browser)
    return 0


def verify(args: argparse.Namespace) -> int:
    """Print what is wrong; 1 if anything is."""
    from pipeline.maintenance import verify

    problems = verify(settings.state_dir())
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problem(s); a step whose outputs are damaged is run again by itself"
          if problems else "everything is whole")  # fmt: skip
    return 1 if problems else 0


def gc(args: argparse.Namespace) -> int:
    """Show what would go, and remove it if confirmed."""
    from pipeline.maintenance import garbage, remove

    found = garbage(settings.state_dir(), args.keep)
    for line in found.lines():
        print(line)
    if not found:
        print("nothing to remove")
    elif args.yes:
        remove(found)
        print("removed")
    else:
        print("nothing has been removed; add --yes to remove this")
    return 0


def sync_to_wandb(args: argparse.Namespace) -> int:
    """Copy a run, and print each step's run and its address as soon as it is there."""
    from pipeline.sync import sync

    for name, url in sync(args.run):
        print(f"{name}  {url}", flush=True)
    return 0


def compare(args: argparse.Namespace) -> int:
    """Show what differs between runs, or write it to a file."""
    from rich.console import Console

    from pipeline import compare, compare_files

    if args.output:
        compare_files.check(args.output)
    found = compare.choose(args.runs, args.best, args.experiment, args.metric)
    if args.output:
        compare_files.write(found, args.output)
        print(args.output)
    else:
        compare.show(found, Console(highlight=False))
    return 0


def reproduce(args: argparse.Namespace) -> int:
    """Compare a run with its repetition, or start one that is linked to it."""
    import signal

    from pipeline import reproduce

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

    from pipeline import changes

    changes.log(Console(highlight=False, soft_wrap=True), args.experiment, args.n)
    return 0


def show(args: argparse.Namespace) -> int:
    """Show a run."""
    from rich.console import Console

    from pipeline import changes

    changes.show(Console(highlight=False, soft_wrap=True), args.run)
    return 0


def diff(args: argparse.Namespace) -> int:
    """Show what differs between two runs."""
    from rich.console import Console

    from pipeline import changes

    changes.diff(Console(highlight=False), *args.runs)
    return 0


def checkout(args: argparse.Namespace) -> int:
    """Lay a run out."""
    from pipeline.restore import checkout

    for line in checkout(args.run, args.into):
        print(line)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    args = parser().parse_args(arguments)
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
