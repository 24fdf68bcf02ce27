"""Calls W&B's SDK: its settings, its service process, its waits, and its errors in our words."""

import concurrent.futures
import os
import re
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import wandb
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from pipeline.core import settings, variables
from pipeline.core.errors import PipelineError

# Where the SDK writes: below the state folder. WANDB_CONFIG_DIR stays, it holds the user's login.
FOLDERS = {
    "WANDB_DIR": "",
    "WANDB_CACHE_DIR": "cache",
    "WANDB_DATA_DIR": "data",
    "WANDB_ARTIFACT_DIR": "artifacts",
}
# What the SDK does unasked and nobody here reads. A variable that is set wins: WANDB_CONSOLE=wrap.
UNUSED = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "label_disable": True,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "x_skip_transaction_log": True,
}
BYTES_PER_SECOND = 1_000_000  # a transfer slower than this counts as one that hangs
FAILURES = (wandb.Error, WandbApiFailedError, OSError, ValueError, TypeError, RuntimeError)
A_FULL_DISK = re.compile("no space left|quota exceeded|file too large", re.IGNORECASE)
A_WRONG_KEY = re.compile(r"\b40[13]\b|api key|not logged in|permission denied", re.IGNORECASE)
A_DELETED_RUN = "was previously created and deleted"
KILLED = 255  # the exit code after Ctrl-C, from which W&B tells a killed run from a failed one
KILLED_WAIT = 2.5  # seconds for the end of a killed run; its process has 3


class DeletedError(PipelineError):
    """A run was deleted in W&B; nobody gets its id again."""


Result = TypeVar("Result")

_known_api: wandb.Api | None = None


def api() -> wandb.Api:
    """W&B's public API, to ask what is stored; the same one until :func:`close`."""
    global _known_api
    if _known_api is None:
        prepare()
        _known_api = wandb.Api()
        # It names the service that has just been started. The steps have one each: a step that
        # is killed must not leave its run in ours.
        variables.set_variables({"WANDB_SERVICE": None})
    return _known_api


def close(exit_code: int = 0) -> None:
    """End the SDK's service process, once it has stored all it was given."""
    global _known_api
    _known_api = None
    wandb.teardown(exit_code)


def abandon(exit_code: int) -> None:
    """Let go of the SDK, which would hold up the end of this process until it has succeeded."""
    thread = threading.Thread(target=close, args=(exit_code,), daemon=True)
    thread.start()
    thread.join(KILLED_WAIT if exit_code == KILLED else 0.5)


def ask(
    what: str,
    call: Callable[[], Result],
    size: int = 0,
    limit: float = 0,
    linger: float = 0,
) -> Result:
    """Call the SDK; what goes wrong, or takes too long, is a PipelineError.

    Some of the SDK's waits have no end, so the call is made in a thread that can be left behind.

    Args:
        what: what is being done, for the message.
        call: what to call.
        size: how many bytes are moved; a second is added for each megabyte.
        limit: seconds; without it, the tracker's time-out.
        linger: seconds in which the call may complete after Ctrl-C.
    """
    limit = (limit or settings.tracker_timeout()) + size / BYTES_PER_SECOND
    future: concurrent.futures.Future[Result] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(call())
        except SystemExit as error:  # how the SDK tells that its service has crashed
            future.set_exception(RuntimeError(f"the SDK's service ended with code {error.code}"))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name=f"wandb: {what}", daemon=True).start()
    try:
        return future.result(limit)
    except KeyboardInterrupt:
        concurrent.futures.wait([future], linger)
        raise
    except FAILURES as error:
        if A_DELETED_RUN in str(error):
            raise DeletedError(str(error), "choose another id") from error
        reason = _reason(error) if future.done() else f"no answer within {limit:.0f} seconds"
        raise PipelineError(
            f"W&B ({server()}) could not {what}: {reason}", _remedy(error)
        ) from error


def server() -> str:
    """The address of the server in use."""
    return wandb.setup().settings.base_url


def prepare() -> None:
    """Say where the SDK may write, what it need not do and how long it may wait."""
    seconds, state = settings.tracker_timeout(), settings.state_dir() / "wandb"
    folders = {name: str(state / folder) for name, folder in FOLDERS.items()}
    reporting = {"WANDB_ERROR_REPORTING": "false"}  # to W&B, about the SDK's own errors
    timeout = {"WANDB_HTTP_TIMEOUT": str(max(1, round(seconds)))}
    variables.set_defaults(folders | reporting | timeout)
    wanted = {**UNUSED, **_patience(seconds)}
    ours = {key: wanted[key] for key in wanted if f"WANDB_{key.upper()}" not in os.environ}
    wandb.setup(wandb.Settings(**ours))


def _patience(seconds: float) -> dict[str, Any]:
    """Settings that make the SDK ask again while the server is away, then give up and say why.

    That takes up to four fifths of the time, so the SDK's own words come before ours. It knows
    whole seconds only, and makes a pause longer by up to a quarter.
    """
    longest = max(1, min(4, int(seconds / 10)))
    retries, total = 0, 0
    while total + (pause := min(2**retries, longest)) <= 0.65 * seconds:
        retries, total = retries + 1, total + pause
    patience: dict[str, Any] = {
        "init_timeout": 0.8 * seconds,
        "finish_timeout": 0.8 * seconds,
        "finish_timeout_raises": True,
        "x_service_wait": 0.8 * seconds,
        "x_graphql_timeout_seconds": max(1, int(seconds / 2)),
        "x_file_stream_timeout_seconds": max(1, int(seconds / 2)),
        "x_graphql_retry_max": retries,
        "x_file_transfer_retry_max": retries,
        "x_file_stream_retry_max": 10_000,  # after the last one it would drop metrics silently
    }
    for client in ("graphql", "file_transfer", "file_stream"):
        patience[f"x_{client}_retry_wait_min_seconds"] = 1
        patience[f"x_{client}_retry_wait_max_seconds"] = longest
    return patience


def _reason(error: BaseException) -> str:
    """The SDK's words, without its advice and without saying a cause twice."""
    text = str(error).partition("Consider increasing")[0].strip()
    return text.rpartition("while retrying: ")[2] or type(error).__name__


def _remedy(error: BaseException) -> str:
    """What to do about an error of the SDK."""
    if A_FULL_DISK.search(str(error)):
        return f"free some space for {settings.state_dir()} and temporary files, and run again"
    if A_WRONG_KEY.search(str(error)):
        return "check WANDB_API_KEY and WANDB_BASE_URL, or run `wandb login --relogin`"
    return (
        "check the network and WANDB_BASE_URL, and run again; or use the local tracker: "
        f"main.tracker=trackio\nthe SDK's log: {os.environ['WANDB_DIR']}/wandb"
    )
