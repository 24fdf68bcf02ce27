"""How long MLflow tries to reach its server: minutes, by itself. It reads this anew each time."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from pipeline.core import secrets, settings, variables

RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
BACKOFF = "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"
ONCE = {RETRIES: "0", TIMEOUT: "5"}


def patience(seconds: float) -> dict[str, str]:
    """The variables by which a server is given up after so many seconds.

    The tries, five at most, have three quarters of the time, and the pauses between them the rest:
    there is none before the second, then one of twice the factor, and each is twice the last.
    """
    factor = max(1, round(seconds / 60))
    retries = next(n for n in (4, 3, 2, 1) if (2**n - 2) * factor <= seconds / 4)
    timeout = max(1, round(0.75 * seconds / (retries + 1)))
    return {RETRIES: str(retries), TIMEOUT: str(timeout), BACKOFF: str(factor)}


def once() -> AbstractContextManager[None]:
    """Within a block each request is tried once: the server may be what has failed."""
    return variables.temporarily(ONCE)


@contextlib.contextmanager
def announced(say: Callable[[str], None]) -> Iterator[None]:
    """Say, once within a block, that MLflow's server does not answer and is asked again.

    MLflow is silent about it. Its HTTP library logs each retry: after a lost connection as a
    warning, after an answer such as 503 for debugging only.
    """
    log = logging.getLogger("urllib3.connectionpool")
    said: list[logging.LogRecord] = []
    level, shown = log.level, log.getEffectiveLevel()

    def look(record: logging.LogRecord) -> bool:
        address = str(record.args[-1]) if isinstance(record.args, tuple) and record.args else ""
        if record.msg.startswith("Retry") and "/mlflow" in address and not said:
            said.append(record)
            say(
                f"MLflow's server, {secrets.without_login(settings.tracking_uri())}, does not "
                f"answer; it is asked again for {settings.tracker_timeout():g} s at most, each "
                "time (main.tracker_timeout)"
            )
        return record.levelno >= shown

    log.setLevel(logging.DEBUG)
    log.addFilter(look)
    try:
        yield
    finally:
        log.removeFilter(look)
        log.setLevel(level)
