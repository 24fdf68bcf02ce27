"""Sets how long MLflow retries to reach its server, minutes by default.

MLflow reads these variables at each request.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from pipeline.core import settings, variables
from pipeline.core.security import secrets

RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
BACKOFF = "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"
WITHOUT_RETRIES = {RETRIES: "0", TIMEOUT: "5"}


def patience(seconds: float) -> dict[str, str]:
    """The variables that let MLflow give up a server after so many seconds.

    The tries, five at most, take three quarters of the time, and the pauses between them the rest.
    There is no pause before the second try, the next one lasts twice the factor, and each further
    pause is twice as long.
    """
    factor = max(1, round(seconds / 60))
    retries = next(n for n in (4, 3, 2, 1) if (2**n - 2) * factor <= seconds / 4)
    timeout = max(1, round(0.75 * seconds / (retries + 1)))
    return {RETRIES: str(retries), TIMEOUT: str(timeout), BACKOFF: str(factor)}


def without_retries() -> AbstractContextManager[None]:
    """Turn off retries within a block, because the server may be unreachable."""
    return variables.temporarily(WITHOUT_RETRIES)


@contextlib.contextmanager
def announce_retries(say: Callable[[str], None]) -> Iterator[None]:
    """Announce, once within a block, that MLflow's server does not answer and requests are retried.

    MLflow does not. Its HTTP library logs each retry: as a warning after a lost connection, and at
    debug level after an answer such as 503.

    Args:
        say: prints a message.
    """
    log = logging.getLogger("urllib3.connectionpool")
    matches: list[logging.LogRecord] = []
    level, threshold = log.level, log.getEffectiveLevel()

    def keep(record: logging.LogRecord) -> bool:
        address = str(record.args[-1]) if isinstance(record.args, tuple) and record.args else ""
        if record.msg.startswith("Retry") and "/mlflow" in address and not matches:
            matches.append(record)
            say(
                f"MLflow's server, {secrets.without_login(settings.tracking_uri())}, does not "
                f"answer; each request is retried for {settings.tracker_timeout():g} s at most "
                "(main.tracker_timeout)"
            )
        return record.levelno >= threshold

    log.setLevel(logging.DEBUG)
    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)
        log.setLevel(level)
