"""Calls W&B's SDK: its settings, its service process, its waits, and its errors in our words."""

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
BYTES_PER_SECOND = 1_000_000  # what a transfer is expected to move, if nothing can be seen of it
PROGRESS = 64_000  # bytes; a transfer that moves fewer in the time for an answer hangs
REPEATED = 6  # times that a file's bytes are read, hashed and sent at most, or they are sent again
FAILURES = (wandb.Error, WandbApiFailedError, OSError, ValueError, TypeError, RuntimeError)
A_FULL_DISK = re.compile("no space left|quota exceeded|file too large", re.IGNORECASE)
A_WRONG_KEY = re.compile(r"\b40[13]\b|api key|not logged in", re.IGNORECASE)
A_WRONG_PLACE = re.compile(r"permission denied|entity .* not found", re.IGNORECASE)
A_RATE_LIMIT = re.compile(r"\b429\b|rate limit", re.IGNORECASE)
A_TIMEOUT = re.compile("timed? ?out", re.IGNORECASE)
A_PAGE = re.compile(r"(?is)<(?:!doctype )?html\b.*?(?:<title>(.*?)</title>.*)?$")
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


def call_sdk(
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
        size: how many bytes are moved; a second is added for each megabyte, and the time begins
            anew while bytes are moved.
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
        return _result(future, limit, size)
    except KeyboardInterrupt:
        concurrent.futures.wait([future], linger)
        raise
    except FAILURES as error:
        if A_DELETED_RUN in str(error):
            raise DeletedError(str(error), "choose another id") from error
        late = not future.done() or A_TIMEOUT.search(str(error)) is not None
        reason = _reason(error) if future.done() else f"no answer within {limit:.0f} seconds"
        remedy = _remedy(error, late)
        if A_RATE_LIMIT.search(str(error)) or (late and _is_rate_limited()):
            reason = f"it limits how often it may be asked (HTTP 429); {reason}"
            remedy = f"run it later, or fewer at once; or wait longer: {_longer()}"
        raise PipelineError(f"W&B ({server()}) could not {what}: {reason}", remedy) from error


def _result(future: "concurrent.futures.Future[Result]", limit: float, size: int) -> Result:
    """A call's result, waited for as long as bytes are moved, and no more than they can be.

    Raises:
        TimeoutError: there is none, and nothing is moved.
    """
    begin = before = _moved() if size else 0
    while True:
        try:
            return future.result(limit)
        except TimeoutError:
            if future.done() or not size:
                raise
            now = _moved()
            if now - before < PROGRESS or now - begin > REPEATED * (size + PROGRESS):
                raise
            before = now


def _moved() -> int:
    """Bytes that this process and the SDK's service have moved; 0 where no Linux counts them."""
    moved, own = 0, Path("/proc/self")
    with contextlib.suppress(OSError):  # another system, or a process that has just ended
        children = [pid for task in own.glob("task/*/children") for pid in task.read_text().split()]
        for process in (own, *(Path("/proc", pid) for pid in children)):
            counts = dict(line.split(": ") for line in (process / "io").read_text().splitlines())
            moved += int(counts["rchar"]) + int(counts["wchar"])
    return moved


def _is_rate_limited() -> bool:
    """Whether the SDK, which does not say so, has been asking again because of a rate limit."""
    logs = Path(os.environ["WANDB_DIR"], "wandb").glob("run-*/logs/debug-internal.log")
    newest = max(logs, key=lambda log: log.stat().st_mtime, default=None)
    lines = newest.read_text(encoding="utf-8", errors="replace").splitlines() if newest else []
    retries = [line for line in lines if "retrying HTTP error" in line]
    return bool(retries) and '"status":429' in retries[-1]


def _longer() -> str:
    """How to wait longer."""
    return f"main.tracker_timeout={2 * settings.tracker_timeout():g}"


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
    # It names the service that has just been started. The steps have one each: a step that is
    # killed must not leave its run in ours. And step workers are found by their environment.
    variables.set_variables({"WANDB_SERVICE": None})


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
    """The SDK's words, without its advice, without saying a cause twice and without HTML.

    Whatever stands between W&B and its users answers with a page, whose title says it.
    """
    text = str(error).partition("Consider increasing")[0]
    text = A_PAGE.sub(lambda page: page[1] or "a web page", text).strip()
    return text.rpartition("while retrying: ")[2] or type(error).__name__


def _remedy(error: BaseException, late: bool) -> str:
    """What to do about an error of the SDK."""
    if A_FULL_DISK.search(str(error)):
        return f"free some space for {settings.state_dir()} and temporary files, and run again"
    if A_WRONG_PLACE.search(str(error)):
        entity = wandb_entity() or "your default entity"
        return (
            f"your key has to be allowed to write to {entity} (WANDB_ENTITY) and its project "
            f"{settings.project()} (main.project_name): check these names, or ask who owns them"
        )
    if A_WRONG_KEY.search(str(error)):
        return "check WANDB_API_KEY and WANDB_BASE_URL, or run `wandb login --relogin`"
    longer = f"wait longer: {_longer()}; or " if late else ""
    return (
        f"check the network and WANDB_BASE_URL, and run again; or {longer}use the local tracker: "
        f"main.tracker=trackio\nthe SDK's log: {os.environ['WANDB_DIR']}/wandb"
    )
