"""Checks whether a source that a step fetched has changed."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.core.data.addresses import PLACES, is_query
from pipeline.core.data.formats import parquet_files
from pipeline.core.errors import PipelineError
from pipeline.core.files import combined_digest, content_digest, file_digest
from pipeline.core.security import secrets
from pipeline.core.settings import CONTENT, ETAG, NEVER
from pipeline.sources import errors

TIMEOUT = 5.0
CLOUD_TIMEOUT = 20.0  # a login of Azure's takes some seconds
CHUNK = 1 << 16
MOST = 1000  # factor by which unchanged content may exceed its stored bytes in memory


def changed(source: dict[str, Any], revalidate: str = ETAG) -> str | None:
    """Why a step that used this source has to run again, or None if the source is unchanged.

    Args:
        source: its record: ``url``, ``sha256`` if the user pinned it, ``digest`` and ``bytes`` of
            the content, the server's ``etag`` and ``last_modified``, ``standin`` if another file
            was used instead, and a database's ``query``.
        revalidate: ``etag`` trusts the server's ETag or date, ``content`` compares the bytes,
            ``never`` checks nothing. Except with ``never``, a database is always queried again.

    Raises:
        Unreachable: the source does not answer.
    """
    if source.get("sha256"):
        return None  # the content is pinned
    url, address = secrets.for_display(source["url"]), _address(source)
    if urlsplit(address).scheme.lower() == "file":
        digest = _digest(Path(unquote(urlsplit(address).path)))
        if digest is None:
            raise Unreachable(f"{url} is gone")
        return None if digest == source["digest"] else f"{url} has changed"
    if revalidate == NEVER:
        return None
    query = secrets.resolve(source.get("query"))
    if is_query(address, query) or urlsplit(address).scheme.lower() in PLACES:
        return _compare_fetched(url, address, query, source, revalidate)
    return _compare_response(url, address, source, revalidate)


def _digest(path: Path) -> str | None:
    """Digest of a file, or of a folder's Parquet files; None if there are none."""
    if path.is_file():
        return file_digest(path)
    files = {file.relative_to(path).as_posix(): file_digest(file) for file in parquet_files(path)}
    return combined_digest(files) if files else None


def _compare_fetched(
    url: str, address: str, query: str | None, source: dict[str, Any], revalidate: str
) -> str | None:
    """Compare the content of a database or of cloud storage by fetching it again."""
    from pipeline.sources import fetching, places

    try:
        if not is_query(address, query) and revalidate == ETAG:
            is_same = places.version(address, CLOUD_TIMEOUT) == source.get("etag")
            return None if is_same else f"{url} has changed"
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "data")
            limits = MOST * max(source["bytes"], 1), CLOUD_TIMEOUT, 0
            fetching.fetch(address, target, *limits, query)
            is_same = content_digest(target) == source["digest"]
    except errors.TooLarge:
        is_same = False
    except errors.NotInstalled as error:  # the step's environment may have it
        return f"{secrets.for_display(error.what)}, so it is fetched again"
    except PipelineError as error:
        raise Unreachable(secrets.for_display(error.what)) from error
    return None if is_same else f"{url} has changed"


class Unreachable(Exception):
    """A source that does not answer."""


def _address(source: dict[str, Any]) -> str:
    try:
        return str(secrets.resolve(source["url"]))
    except PipelineError as error:
        raise Unreachable(error.what) from error


def _compare_response(
    url: str, address: str, source: dict[str, Any], revalidate: str
) -> str | None:
    import requests

    headers = {
        "If-None-Match": source.get("etag"),
        "If-Modified-Since": source.get("last_modified"),
    }
    conditions = {name: value for name, value in headers.items() if value and revalidate == ETAG}
    try:
        with requests.get(address, headers=conditions, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.not_modified:
                return None
            if response.status_code >= 500:
                raise Unreachable(f"{url} answers {response.status_code}")
            if conditions and response.headers.get("ETag") == source.get("etag") is not None:
                return None
            if revalidate == CONTENT and not source.get("standin") and response.ok:
                return None if _same(response, source) else f"{url} has changed"
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Unreachable(f"{url} can't be reached") from error
    if source.get("standin"):
        return f"{url} can be reached again"
    return f"{url} has changed" if conditions else f"{url} says nothing of its version"


def _same(response: Any, source: dict[str, Any]) -> bool:
    """Whether a response has the bytes of a source; reads at most as many bytes."""
    digest, size = hashlib.sha256(), 0
    for chunk in response.iter_content(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        if size > source.get("bytes", size):
            return False
    return digest.hexdigest() == str(source["digest"])
