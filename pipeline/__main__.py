"""``python -m pipeline COMMAND``: the commands of all packages."""

import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

import click

from pipeline.core import azure, databases, settings, variables
from pipeline.core.errors import INTERRUPTED, discard_output, output_closed, report_error
from pipeline.core.security import hardening


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state-dir", metavar="DIR", help="main.state_dir of the runs, if not the default")
def cli(state_dir: str | None) -> None:
    """Inspect, reproduce, compare and use what runs of the pipeline recorded."""
    if state_dir:
        variables.set_variables({settings.STATE_DIR: state_dir})
    hardening.close_state()


def modules() -> Iterator[ModuleType]:
    """The ``commands`` module of each package that has one."""
    for pattern in ("pipeline/*/commands.py", "dashboard/commands.py"):
        for file in settings.ROOT.glob(pattern):
            yield import_module(".".join(file.relative_to(settings.ROOT).with_suffix("").parts))


for module in modules():
    for value in vars(module).values():
        if isinstance(value, click.Command):
            cli.add_command(value)


def main(arguments: list[str] | None = None, name: str = "python -m pipeline") -> int:
    """Run a command, and return its exit status."""
    hardening.harden()
    azure.guard_tracebacks()
    try:
        status = cli.main(arguments, name, standalone_mode=False) or 0
        sys.stdout.flush()
        return status
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except Exception as error:
        if output_closed(error):
            return discard_output()
        readable = databases.as_pipeline_error(error)
        if readable is None:
            raise
        report_error(readable)
    return 1


def program() -> int:
    """The console script ``pipeline``, which has shell completion."""
    return main(name="pipeline")


if __name__ == "__main__":
    sys.exit(main())
