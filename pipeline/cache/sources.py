"""Is what a step fetched from outside still the same?"""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.core import secrets
from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest
from pipeline.core.settings import CONTENT, ETAG, NEVER

TIMEOUT = 5.0
CHUNK = 1 << 16


def changed(source: dict[str, Any], revalidate: str = ETAG) -> str | None:
    """Why a step that used this source has to run again, or None if the source is the same.

    Args:
        source: ``url``, and what is known of it: ``sha256`` if the user pinned it, ``digest`` of
            the content and its size in ``bytes``, ``etag`` and ``last_modified`` as the server gave
            them, ``standin`` if something else was used in its place.
        revalidate: ``etag`` believes the server's ETag or date, ``content`` compares the bytes,
            ``never`` asks nobody.

    Raises:
        Unreachable: nobody answers; what was fetched before is all there is.
    """
    if source.get("sha256"):
        return None  # these bytes and no others, whatever is there now
    url, address = secrets.shown(source["url"]), _address(source)
    if urlsplit(address).scheme.lower() == "file":
        path = Path(unquote(urlsplit(address).path))
        if not path.is_file():
            raise Unreachable(f"{url} is gone")
        return None if file_digest(path) == source["digest"] else f"{url} has changed"
    return None if revalidate == NEVER else _asked(url, address, source, revalidate)


class Unreachable(Exception):
    """Nobody answers at a source's address."""


def _address(source: dict[str, Any]) -> str:
    try:
        return secrets.resolve(source["url"])
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
    return found.hexdigest() == source["digest"]
