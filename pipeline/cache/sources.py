"""Is what a step fetched from outside still the same?"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.core import secrets
from pipeline.core.addresses import PLACES, is_query
from pipeline.core.errors import PipelineError
from pipeline.core.files import combined_digest, content_digest, file_digest
from pipeline.core.formats import parquet_files
from pipeline.core.settings import CONTENT, ETAG, NEVER
from pipeline.sources import errors

TIMEOUT = 5.0
CHUNK = 1 << 16
MOST = 1000  # times its bytes that the same content takes in memory, at most


def changed(source: dict[str, Any], revalidate: str = ETAG) -> str | None:
    """Why a step that used this source has to run again, or None if the source is the same.

    Args:
        source: ``url``, and what is known of it: ``sha256`` if the user pinned it, ``digest`` of
            the content and its size in ``bytes``, ``etag`` and ``last_modified`` as the server gave
            them, ``standin`` if something else was used in its place, ``query`` that a database
            was asked.
        revalidate: ``etag`` believes the server's ETag or date, ``content`` compares the bytes,
            ``never`` asks nobody. A database is always asked again, but for ``never``.

    Raises:
        Unreachable: nobody answers; what was fetched before is all there is.
    """
    if source.get("sha256"):
        return None  # these bytes and no others, whatever is there now
    url, address = secrets.shown(source["url"]), _address(source)
    if urlsplit(address).scheme.lower() == "file":
        found = _digest(Path(unquote(urlsplit(address).path)))
        if found is None:
            raise Unreachable(f"{url} is gone")
        return None if found == source["digest"] else f"{url} has changed"
    if revalidate == NEVER:
        return None
    query = secrets.resolve(source.get("query"))
    if is_query(address, query) or urlsplit(address).scheme.lower() in PLACES:
        return _fetched(url, address, query, source, revalidate)
    return _asked(url, address, source, revalidate)


def _digest(path: Path) -> str | None:
    """Digest of a file, or of a folder's Parquet parts; None if there are none."""
    if path.is_file():
        return file_digest(path)
    files = {one.relative_to(path).as_posix(): file_digest(one) for one in parquet_files(path)}
    return combined_digest(files) if files else None


def _fetched(
    url: str, address: str, query: str | None, source: dict[str, Any], revalidate: str
) -> str | None:
    """A database's or cloud storage's content, compared by fetching it once more."""
    from pipeline.sources import fetching, places

    try:
        if not is_query(address, query) and revalidate == ETAG:
            return None if places.version(address) == source.get("etag") else f"{url} has changed"
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "data")
            fetching.fetch(address, target, MOST * max(source["bytes"], 1), TIMEOUT, 0, query)
            same = content_digest(target) == source["digest"]
    except errors.TooLarge:
        same = False
    except PipelineError as error:
        raise Unreachable(secrets.shown(error.what)) from error
    return None if same else f"{url} has changed"


class Unreachable(Exception):
    """Nobody answers at a source's address."""


def _address(source: dict[str, Any]) -> str:
    try:
        return str(secrets.resolve(source["url"]))
    except PipelineError as error:
        raise Unreachable(error.what) from error


def _asked(url: str, address: str, source: dict[str, Any], revalidate: str) -> str | None:
    import requests

    headers = {
        "If-None-Match": source.get("etag"),
        "If-Modified-Since": source.get("last_modified"),
    }
    known = {name: value for name, value in headers.items() if value and revalidate == ETAG}
    try:
        with requests.get(address, headers=known, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == requests.codes.not_modified:
                return None
            if answer.status_code >= 500:
                raise Unreachable(f"{url} answers {answer.status_code}")
            if known and answer.headers.get("ETag") == source.get("etag") is not None:
                return None
            if revalidate == CONTENT and not source.get("standin") and answer.ok:
                return None if _same(answer, source) else f"{url} has changed"
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Unreachable(f"{url} can't be reached") from error
    if source.get("standin"):
        return f"{url} can be reached again"
    return f"{url} has changed" if known else f"{url} says nothing of its version"


def _same(answer: Any, source: dict[str, Any]) -> bool:
    """Whether an answer has the bytes of a source; no more of them are read than that has."""
    found, size = hashlib.sha256(), 0
    for chunk in answer.iter_content(CHUNK):
        found.update(chunk)
        size += len(chunk)
        if size > source.get("bytes", size):
            return False
    return found.hexdigest() == str(source["digest"])
