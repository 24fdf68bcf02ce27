"""``python -m pipeline COMMAND``: what there is to do around runs."""

import argparse
import sys

from pipeline.errors import PipelineError


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    dashboard = commands.add_parser(
        "dashboard", help="serve Trackio's and MLflow's dashboards until Ctrl-C"
    )
    dashboard.add_argument("--host", default="127.0.0.1", help="address to listen on")
    dashboard.add_argument(
        "--no-browser", action="store_true", help="print the addresses and open nothing"
    )
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    args = parser().parse_args(arguments)
    try:
        if args.command == "dashboard":
            from pipeline.dashboards import serve

            serve(args.host, open_browser=not args.no_browser)
    except PipelineError as error:
        print(f"error: {error}".replace("\n", "\n  "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
