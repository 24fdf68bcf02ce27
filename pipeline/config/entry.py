"""The program around ``go()``: rewrites overrides for Hydra, prints ``--help`` and short errors."""

import atexit
import gc
import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import BooleanNode, DictConfig, FloatNode, IntegerNode, ListConfig, StringNode
from omegaconf.errors import ConfigTypeError, OmegaConfBaseException

from pipeline.config import overrides, references
from pipeline.config import schema as config
from pipeline.core import azure, databases, variables
from pipeline.core.errors import (
    INTERRUPTED,
    PipelineError,
    did_you_mean,
    discard_output,
    file_error,
    interrupt_on_signals,
    output_closed,
    report_error,
)
from pipeline.core.security import hardening
from pipeline.core.settings import ROOT, SWEEP_AGENT, check_path

# The kind of value that each node of the configuration takes
KINDS: dict[type, str] = {
    BooleanNode: "true or false",
    DictConfig: "a mapping: {a: 1}",
    FloatNode: "a number",
    IntegerNode: "a whole number",
    ListConfig: "a list: [a, b]",
    StringNode: "text",
}


def main(go: Callable[..., object]) -> None:
    """Run ``go``, decorated with ``hydra.main``, as the program's main function.

    Rewrites the command line's overrides for Hydra and prints errors in a few lines. Exits with 1
    after an error and 130 after Ctrl-C. HYDRA_FULL_ERROR=1 in the environment shows the traceback.
    """
    hardening.harden()
    interrupt_on_signals()  # a sweep's workers have to end, too
    atexit.register(gc.freeze)  # or Python searches all of MLflow for garbage before it exits
    azure.guard_tracebacks()
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    variables.set_variables({"HYDRA_FULL_ERROR": "1"})  # so that Hydra raises, and we print
    try:
        check_path("the repository", ROOT)
        overrides.refuse_flags(sys.argv[1:], os.environ)
        sys.argv[1:] = overrides.overrides(sys.argv[1:])
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(usage(sys.modules[go.__module__].__doc__ or ""))
            return
        if sys.argv[1:2] == ["explain"]:
            sys.argv[1] = "main.explain=true"
        sys.argv[1:] = overrides.with_defaults(sys.argv[1:], os.environ)
        config.register()
        go()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit as stop:
        if not isinstance(stop.__cause__, PipelineError):
            raise
        fail(stop.__cause__, wants_traceback)
    except (PipelineError, HydraException, OmegaConfBaseException, OSError) as error:
        if output_closed(error):
            sys.exit(discard_output())
        fail(error, wants_traceback)
    except Exception as error:
        readable = databases.as_pipeline_error(error)
        if readable is None or wants_traceback:
            raise
        fail(readable, wants_traceback)


def usage(summary: str) -> str:
    """The text of ``--help``: the examples, the files to choose from, and every setting.

    Hydra's own help would list every folder below the repository that holds a YAML file.
    """
    groups = (f"  {name}={'|'.join(config.options(name))}" for name in ("data", "model"))
    settings = (ROOT / "config.yaml").read_text(encoding="utf-8")
    sections = settings[settings.index("\nmain:") : settings.index("\nhydra:")]
    choices = "\n".join(groups)
    return f"{summary.strip()}\n\nFiles in conf/:\n{choices}\n\nSettings:\n{sections}"


def fail(error: Exception, traceback: bool) -> NoReturn:
    """Print an error in a few lines, and exit with status 1."""
    if traceback:
        raise error
    if isinstance(error, PipelineError):
        readable = error
    elif isinstance(error, OSError) and not isinstance(error, HydraException):
        readable = file_error(error)
    else:
        readable = explain(error)  # also a file that Hydra misses, which is both
    if os.environ.get(SWEEP_AGENT) and isinstance(error, ConfigCompositionException):
        readable = PipelineError(readable.what, f"{readable.remedy}\n{overrides.OF_AN_AGENT}")
    message, remedy = references.hidden(readable.what), references.hidden(readable.remedy)
    report_error(PipelineError(message, remedy))
    sys.exit(1)


def explain(error: Exception) -> PipelineError:
    """An error of Hydra or OmegaConf, in terms of the keys that the user typed."""
    text = str(error)
    unknown = re.search(r"Could not (?:override|append to config|delete).*?'([^']+)'", text)
    if isinstance(error, ConfigCompositionException):
        cause = error.__cause__
        key = getattr(cause, "full_key", None)
        if unknown:
            return config.unknown_setting(unknown[1].rstrip("."))
        if key and isinstance(cause, OmegaConfBaseException):
            typed = text.partition("merging override ")[2] or key
            return PipelineError(
                f"{typed} is not {_kind(cause)}",
                f"{config.file_of(key)} explains {key} and shows a value",
            )
    if isinstance(error, MissingConfigException):
        missing = re.search(r"'(\w+)/([^']+)'", text)
        if missing:
            names = config.options(missing[1])
            return PipelineError(
                f"there is no {missing[1]}={missing[2]}{did_you_mean(missing[2], names)}",
                f"conf/{missing[1]} has: {', '.join(names)}",
            )
    if isinstance(error, OverrideParseException):
        return PipelineError(
            f"can't read the override {str(error.override).lstrip('+')!r}",
            "an override is key=value; quote what the shell or Hydra would split: "
            "\"main.project_name='a, b'\"",
        )
    return PipelineError(text.strip())


def _kind(error: OmegaConfBaseException) -> str:
    """The kind of value that the refused key takes."""
    is_merge = isinstance(error, ConfigTypeError)  # of a mapping into a list, or the reverse
    node = error.parent_node if is_merge else error.child_node
    return KINDS.get(type(node), "a value that it takes")
