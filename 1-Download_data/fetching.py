"""Downloads a file over HTTP with retries, or copies a local one, and checks it is a table."""

import itertools
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest
from pipeline.core.settings import check_file_url
from pipeline.core.text import say

CHUNK = 1 << 16


BACKOFF = 0.5  # seconds before the second further try; doubled for each one after it


LONGEST_WAIT = 60  # seconds, whatever the server asks for


class Unreachable(PipelineError):
    """Nothing answered at the address; the only failure for which the snapshot stands in."""


class CutOff(Exception):
    """An answer that stopped before its end, which urllib3 does not ask for again."""


def fetch(url: str, target: Path, max_bytes: int, timeout: float, retries: int) -> dict[str, str]:
    """Stream ``url`` (http, https or file) into ``target``.

    Connection errors, cut-off answers and 5xx are tried again ``retries`` times, with back-off.

    Returns:
        What the server says of this version: ``etag`` and ``last_modified``, where it does.

    Raises:
        Unreachable: no answer after all tries.
        PipelineError: a status that is an error, more than ``max_bytes``, or another scheme.
    """
    scheme = url.partition(":")[0].lower()
    if scheme == "file":
        return copy(url, target, max_bytes)
    if scheme not in ("http", "https"):
        raise PipelineError(
            f"data.file_url={url!r}: only http, https and file addresses are fetched",
            "use an absolute file:///path/to/data.csv for a local file",
        )
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
            except (requests.RequestException, ValueError) as error:  # a host that can't be one
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
    with session.get(url, stream=True, timeout=timeout) as answer:
        if answer.status_code >= 400:
            raise PipelineError(
                f"data.file_url={url!r} answered {answer.status_code} {answer.reason}",
                "check the address",
            )
        length = answer.headers.get("Content-Length", "")
        expected = int(length) if length.isdecimal() else None
        if expected and expected > max_bytes:
            raise too_large(url, max_bytes)
        bar = tqdm(total=expected, unit="B", unit_scale=True, disable=None, desc=target.name)
        with target.open("wb") as file, bar:
            try:
                for chunk in answer.iter_content(CHUNK):
                    if file.tell() + len(chunk) > max_bytes:  # it is decompressed by now
                        raise too_large(url, max_bytes)
                    file.write(chunk)
                    bar.update(len(chunk))
            except requests.RequestException as error:
                raise CutOff(f"the answer was cut off: {error}") from error
        names = {"etag": "ETag", "last_modified": "Last-Modified"}
        return {key: answer.headers[name] for key, name in names.items() if name in answer.headers}


def copy(url: str, target: Path, max_bytes: int) -> dict[str, str]:
    """Copy a ``file:`` address into ``target``."""
    check_file_url("data.file_url", url)
    source = Path(unquote(urlsplit(url).path))
    if not source.is_absolute():
        raise PipelineError(
            f"data.file_url={url!r} is relative", "give the whole path: file:///path/to/data.csv"
        )
    if not source.is_file():
        raise PipelineError(
            f"data.file_url={url!r}: there is no file {source}",
            "check the path; an address begins with https:// or http://",
        )
    if source.stat().st_size > max_bytes:
        raise too_large(url, max_bytes)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise PipelineError(f"data.file_url={url!r} can't be read: {error}") from error
    return {}


def too_large(url: str, max_bytes: int) -> PipelineError:
    return PipelineError(
        f"data.file_url={url!r} is larger than data.max_bytes={max_bytes}",
        "raise data.max_bytes if that is the file you want",
    )


def check(path: Path, url: str, sha256: str | None) -> None:
    """Refuse what can't be the data set, before it becomes an artifact.

    Raises:
        PipelineError: another checksum, an empty file, a web page, or a header with no rows.
    """
    found = file_digest(path)
    if sha256 and found != sha256.lower():
        raise PipelineError(
            f"{url!r} has SHA-256 {found}, and data.sha256 is {sha256}",
            "the data changed: check it, then set data.sha256 to the new checksum or to null",
        )
    with path.open("rb") as file:
        start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if not start:
            raise PipelineError(f"{url!r} is an empty file", "check data.file_url")
        if start.startswith((b"<!doctype html", b"<html", b"<head", b"<!--", b"<?xml")):
            raise PipelineError(
                f"{url!r} is a web page, not a CSV file",
                "use the address of the file itself (on GitHub: the 'Raw' button)",
            )
        file.seek(0)
        lines = (line for chunk in file for line in chunk.split(b"\r"))
        told = (line for line in lines if line.strip(b"\0\n "))  # UTF-16 is full of zeros
        if len(list(itertools.islice(told, 2))) < 2:
            raise PipelineError(f"{url!r} has a header and no rows", "check data.file_url")
