"""How long MLflow tries to reach its server: minutes, by itself. It reads this anew each time."""

from contextlib import AbstractContextManager

from pipeline.core import variables

RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
BACKOFF = "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"
ONCE = {RETRIES: "0", TIMEOUT: "5"}


def patience(seconds: float) -> dict[str, str]:
    """The variables by which a server is given up after so many seconds.

    Five tries have three quarters of the time, the pauses between them the rest.
    """
    return {
        RETRIES: "4",
        TIMEOUT: str(max(1, int(0.15 * seconds))),
        BACKOFF: str(max(1, round(seconds / 60))),
    }


def once() -> AbstractContextManager[None]:
    """Within a block each request is tried once: the server may be what has failed."""
    return variables.temporarily(ONCE)
