"""Calls W&B's SDK: configures it, limits its waits and translates its errors."""

import concurrent.futures
import contextlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import wandb
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from pipeline.core import settings, variables
from pipeline.core.errors import PipelineError
from pipeline.tracking.choice import wandb_entity

# Folders of the SDK, below the state folder. WANDB_CONFIG_DIR stays: it holds the user's login.
FOLDERS = {
    "WANDB_DIR": "",
    "WANDB_CACHE_DIR": "cache",
    "WANDB_DATA_DIR": "data",
    "WANDB_ARTIFACT_DIR": "artifacts",
}
# Turns off the SDK's features that the pipeline does not use; a variable (WANDB_CONSOLE) wins.
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
BYTES_PER_SECOND = 1_000_000  # expected speed of a transfer whose progress can't be measured
PROGRESS = 64_000  # bytes; a transfer that moves fewer within the time-out hangs
REPEATED = 6  # a file's bytes are read, hashed and sent at most this often, else they are resent
FAILURES = (wandb.Error, WandbApiFailedError, OSError, ValueError, TypeError, RuntimeError)
FULL_DISK = re.compile("no space left|quota exceeded|file too large", re.IGNORECASE)
WRONG_KEY = re.compile(r"\b40[13]\b|api key|not logged in", re.IGNORECASE)
WRONG_ENTITY = re.compile(r"permission denied|entity .* not found", re.IGNORECASE)
RATE_LIMIT = re.compile(r"\b429\b|rate limit", re.IGNORECASE)
TIMED_OUT = re.compile("timed? ?out", re.IGNORECASE)
HTML_PAGE = re.compile(r"(?is)<(?:!doctype )?html\b.*?(?:<title>(.*?)</title>.*)?$")
DELETED_RUN = "was previously created and deleted"
KILLED = 255  # exit code that marks a run as killed rather than failed
KILLED_WAIT = 2.5  # seconds to finish a killed run; its process has 3


class DeletedError(PipelineError):
    """A run was deleted in W&B, so its id can't be used again."""


Result = TypeVar("Result")

_known_api: wandb.Api | None = None


def api() -> wandb.Api:
    """W&B's public API; cached until :func:`close`."""
    global _known_api
    if _known_api is None:
        prepare()
        _known_api = wandb.Api()
    return _known_api


def close(exit_code: int = 0) -> None:
    """End the SDK's service process, after it has stored all data."""
    global _known_api
    _known_api = None
    wandb.teardown(exit_code)


def abandon(exit_code: int) -> None:
    """Close the SDK in a daemon thread, so that its retries do not delay the process's exit."""
    thread = threading.Thread(target=close, args=(exit_code,), daemon=True)
    thread.start()
    thread.join(KILLED_WAIT if exit_code == KILLED else 0.5)


def call_sdk(
    action: str,
    call: Callable[[], Result],
    size: int = 0,
    limit: float = 0,
    grace: float = 0,
) -> Result:
    """Call the SDK with a time limit.

    The call is made in a daemon thread, because some of the SDK's waits have no end.

    Args:
        action: what is done, for the error's message, such as ``find run 'x'``.
        call: calls the SDK.
        size: bytes to move. Each megabyte adds a second, and the limit starts anew as long as
            bytes are moved.
        limit: seconds; by default the tracker's time-out.
        grace: seconds in which the call may complete after Ctrl-C.

    Raises:
        DeletedError: a run with this id was deleted.
        PipelineError: the call failed or took too long.
    """
    limit = (limit or settings.tracker_timeout()) + size / BYTES_PER_SECOND
    future: concurrent.futures.Future[Result] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(call())
        except SystemExit as error:  # raised by the SDK if its service has crashed
            future.set_exception(RuntimeError(f"the SDK's service ended with code {error.code}"))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name=f"wandb: {action}", daemon=True).start()
    try:
        return _result(future, limit, size)
    except KeyboardInterrupt:
        concurrent.futures.wait([future], grace)
        raise
    except FAILURES as error:
        if DELETED_RUN in str(error):
            raise DeletedError(str(error), "choose another id") from error
        is_late = not future.done() or TIMED_OUT.search(str(error)) is not None
        reason = _reason(error) if future.done() else f"no answer within {limit:.0f} seconds"
        remedy = _remedy(error, is_late)
        if RATE_LIMIT.search(str(error)) or (is_late and _is_rate_limited()):
            reason = f"it limits the rate of requests (HTTP 429); {reason}"
            remedy = f"run later, or fewer runs at once; or wait longer: {_longer_timeout()}"
        raise PipelineError(f"W&B ({server()}) could not {action}: {reason}", remedy) from error


def _result(future: "concurrent.futures.Future[Result]", limit: float, size: int) -> Result:
    """Wait for a call's result; extend the limit while it moves enough bytes.

    Raises:
        TimeoutError: there is no result, and no bytes are moved.
    """
    begin = before = _bytes_moved() if size else 0
    while True:
        try:
            return future.result(limit)
        except TimeoutError:
            if future.done() or not size:
                raise
            now = _bytes_moved()
            if now - before < PROGRESS or now - begin > REPEATED * (size + PROGRESS):
                raise
            before = now


def _bytes_moved() -> int:
    """Bytes that this process and the SDK's service have read and written; 0 if not on Linux."""
    moved, this_process = 0, Path("/proc/self")
    with contextlib.suppress(OSError):  # not Linux, or a process that has just ended
        tasks = this_process.glob("task/*/children")
        children = [pid for task in tasks for pid in task.read_text().split()]
        for process in (this_process, *(Path("/proc", pid) for pid in children)):
            counts = dict(line.split(": ") for line in (process / "io").read_text().splitlines())
            moved += int(counts["rchar"]) + int(counts["wchar"])
    return moved


def _is_rate_limited() -> bool:
    """Whether the SDK's log shows that its last retry was for a rate limit (HTTP 429)."""
    logs = Path(os.environ["WANDB_DIR"], "wandb").glob("run-*/logs/debug-internal.log")
    newest = max(logs, key=lambda log: log.stat().st_mtime, default=None)
    lines = newest.read_text(encoding="utf-8", errors="replace").splitlines() if newest else []
    retries = [line for line in lines if "retrying HTTP error" in line]
    return bool(retries) and '"status":429' in retries[-1]


def _longer_timeout() -> str:
    """The setting that doubles the time-out."""
    return f"main.tracker_timeout={2 * settings.tracker_timeout():g}"


def server() -> str:
    """The address of the server in use."""
    return wandb.setup().settings.base_url


def prepare() -> None:
    """Configure the SDK: its folders, unused features and time-outs."""
    seconds, state = settings.tracker_timeout(), settings.state_dir() / "wandb"
    folders = {name: str(state / folder) for name, folder in FOLDERS.items()}
    reporting = {"WANDB_ERROR_REPORTING": "false"}  # to W&B, about the SDK's own errors
    timeout = {"WANDB_HTTP_TIMEOUT": str(max(1, round(seconds)))}
    variables.set_defaults(folders | reporting | timeout)
    defaults = {**UNUSED, **_patience(seconds)}
    unset = {key: defaults[key] for key in defaults if f"WANDB_{key.upper()}" not in os.environ}
    wandb.setup(wandb.Settings(**unset))
    # The SDK has set this to the service that it just started. Steps must start their own, so that
    # a killed step leaves no run in ours; and step workers are looked up by their environment.
    variables.set_variables({"WANDB_SERVICE": None})


def _patience(seconds: float) -> dict[str, Any]:
    """SDK settings that retry while the server is away, then fail with the reason.

    All retries end within four fifths of the time, so that the SDK's error comes before our
    time-out. The SDK takes whole seconds only, and extends a pause by up to a quarter.
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
        "x_file_stream_retry_max": 10_000,  # after the last retry the SDK drops metrics silently
    }
    for client in ("graphql", "file_transfer", "file_stream"):
        patience[f"x_{client}_retry_wait_min_seconds"] = 1
        patience[f"x_{client}_retry_wait_max_seconds"] = longest
    return patience


def _reason(error: BaseException) -> str:
    """The SDK's message without its advice, a repeated cause and HTML.

    A proxy may answer with an HTML page; its title replaces it.
    """
    text = str(error).partition("Consider increasing")[0]
    text = HTML_PAGE.sub(lambda page: page[1] or "a web page", text).strip()
    return text.rpartition("while retrying: ")[2] or type(error).__name__


def _remedy(error: BaseException, is_late: bool) -> str:
    """The remedy for an error of the SDK."""
    if FULL_DISK.search(str(error)):
        return f"free some space for {settings.state_dir()} and temporary files, and run again"
    if WRONG_ENTITY.search(str(error)):
        entity = wandb_entity() or "your default entity"
        return (
            f"your key has to be allowed to write to {entity} (WANDB_ENTITY) and its project "
            f"{settings.project()} (main.project_name): check these names, or ask who owns them"
        )
    if WRONG_KEY.search(str(error)):
        return "check WANDB_API_KEY and WANDB_BASE_URL, or run `wandb login --relogin`"
    longer = f"wait longer: {_longer_timeout()}; or " if is_late else ""
    return (
        f"check the network and WANDB_BASE_URL, and run again; or {longer}use the local tracker: "
        f"main.tracker=trackio\nthe SDK's log: {os.environ['WANDB_DIR']}/wandb"
    )
