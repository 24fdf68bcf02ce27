"""Downloads a file over HTTP, with retries."""

import sys
import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from pipeline.core.errors import PipelineError
from pipeline.core.text import say
from pipeline.sources.errors import Unreachable, too_large

CHUNK = 1 << 16
BACKOFF = 0.5  # seconds before the second retry; doubled for each later one
LONGEST_WAIT = 60  # seconds between two attempts, also if the server asks for more


class CutOff(Exception):
    """A response that stopped before its end; urllib3 does not retry these."""


def fetch(url: str, target: Path, max_bytes: int, timeout: float, retries: int) -> dict[str, str]:
    """Stream ``url`` to ``target``.

    Connection errors, cut-off responses and 5xx are retried ``retries`` times, with back-off.

    Returns:
        The server's ``etag`` and ``last_modified``, if it sends them.

    Raises:
        Unreachable: no answer after all attempts.
        PipelineError: an error status, or more than ``max_bytes``.
    """
    policy = Retry(
        total=retries,
        backoff_factor=BACKOFF,
        status_forcelist=[500, 502, 503, 504],
        raise_on_status=False,
        retry_after_max=LONGEST_WAIT,
    )
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=policy))
        session.mount("https://", HTTPAdapter(max_retries=policy))
        failure: Exception | None = None
        for attempt in range(retries + 1):
            try:
                return stream(session, url, target, max_bytes, timeout)
            except CutOff as error:
                failure = error
                say(f"{error} (try {attempt + 1} of {retries + 1})", file=sys.stderr)
                if attempt < retries:
                    time.sleep(min(BACKOFF * 2**attempt, LONGEST_WAIT))
            except (requests.ConnectionError, requests.Timeout) as error:
                failure = error
                break
            except (requests.RequestException, ValueError) as error:  # an invalid host name
                raise PipelineError(
                    f"data.file_url={url!r} can't be fetched: {error}", "check the address"
                ) from error
    raise Unreachable(
        f"data.file_url={url!r} can't be reached: {failure}",
        "check the address and the network, or use a local copy: data.file_url=file:///...",
    )


def stream(
    session: requests.Session, url: str, target: Path, max_bytes: int, timeout: float
) -> dict[str, str]:
    """One GET into ``target``, with a progress bar on a terminal."""
    with session.get(url, stream=True, timeout=timeout) as response:
        if response.status_code >= 400:
            raise PipelineError(
                f"data.file_url={url!r} answered {response.status_code} {response.reason}",
                "check the address",
            )
        length = response.headers.get("Content-Length", "")
        expected = int(length) if length.isdecimal() else None
        if expected and expected > max_bytes:
            raise too_large(url, max_bytes)
        bar = tqdm(total=expected, unit="B", unit_scale=True, disable=None, desc=target.name)
        with target.open("wb") as file, bar:
            try:
                for chunk in response.iter_content(CHUNK):
                    if file.tell() + len(chunk) > max_bytes:  # size after decompression
                        raise too_large(url, max_bytes)
                    file.write(chunk)
                    bar.update(len(chunk))
            except requests.RequestException as error:
                raise CutOff(f"the answer was cut off: {error}") from error
        names = {"etag": "ETag", "last_modified": "Last-Modified"}
        return {
            key: response.headers[name] for key, name in names.items() if name in response.headers
        }
