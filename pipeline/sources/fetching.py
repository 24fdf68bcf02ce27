"""Fetches a data set as it is, from wherever its address says, and checks that it can be one."""

import bz2
import contextlib
import gzip
import itertools
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.core.addresses import PLACES, check_file_url, is_query
from pipeline.core.errors import PipelineError
from pipeline.core.files import content_digest
from pipeline.core.formats import detect_format, parquet_files
from pipeline.sources.errors import too_large

WEB = ("http", "https")
PACKED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}  # by how such a file begins
LEVELS, CHUNK = 4, 1 << 20


def fetch(
    url: str,
    target: Path,
    max_bytes: int,
    timeout: float,
    retries: int,
    query: str | None = None,
) -> dict[str, str]:
    """Fetch a data set into ``target``: a file, or a folder of Parquet parts.

    Args:
        url: its address: of a web server, a file, cloud storage or a database.
        target: where it is to be.
        max_bytes: the largest size that is accepted.
        timeout: seconds without an answer of a web server.
        retries: further tries of a web server.
        query: what to ask a database for; None: its address names a table.

    Returns:
        What is known of this version, such as a web server's ``etag``.

    Raises:
        Unreachable: no answer after all tries.
        PipelineError: there is no such data set, or it is larger than ``max_bytes``.
    """
    scheme = url.partition(":")[0].lower()
    if is_query(url, query):
        from pipeline.sources import queries

        return queries.fetch(url, query, target, max_bytes)
    if scheme == "file":
        known = copy(url, target, max_bytes)
    elif scheme in WEB:
        from pipeline.sources import web

        known = web.fetch(url, target, max_bytes, timeout, retries)
    elif scheme in PLACES:
        from pipeline.sources import places

        known = places.fetch(url, target, max_bytes)
    else:
        raise _unknown(url)
    if target.is_file() and unpacks_to_more(target, max_bytes):
        raise too_large(url, max_bytes)
    return known


def _unknown(url: str) -> PipelineError:
    return PipelineError(
        f"data.file_url={url!r}: only http, https and file addresses, cloud storage "
        f"({', '.join(PLACES[:-1])}) and databases with a query are fetched",
        "use an absolute file:///path/to/data.csv for a local file, and for a database "
        "?table=NAME at the end of its address, or data.query=...",
    )


def unpacks_to_more(path: Path, most: int) -> bool:
    """Whether a file is packed, also several times, and larger than so many bytes unpacked."""
    try:
        with contextlib.ExitStack() as opened:
            if zipfile.is_zipfile(path):  # which unpacks no more of a file than it declares
                archive = opened.enter_context(zipfile.ZipFile(path))
                return any(file.file_size > most for file in archive.infolist())
            stream: Any = opened.enter_context(path.open("rb"))
            packed = False
            for _ in range(LEVELS):
                found = [
                    one for begin, one in PACKED.items() if stream.peek(6)[:6].startswith(begin)
                ]
                if not found:
                    break
                packed, stream = True, opened.enter_context(found[0](stream))
            size = 0
            while packed and size <= most and (chunk := stream.read(CHUNK)):
                size += len(chunk)
            return size > most
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile):
        return False  # damaged, which 2-ETL says


def copy(url: str, target: Path, max_bytes: int) -> dict[str, str]:
    """Copy a ``file:`` address into ``target``; of a folder its Parquet parts."""
    check_file_url("data.file_url", url)
    source = Path(unquote(urlsplit(url).path))
    if not source.is_absolute():
        raise PipelineError(
            f"data.file_url={url!r} is relative", "give the whole path: file:///path/to/data.csv"
        )
    files = parquet_files(source) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        more = "; the folder has no .parquet files" if source.is_dir() else ""
        raise PipelineError(
            f"data.file_url={url!r}: there is no file {source}{more}",
            "check the path; an address begins with https:// or http://",
        )
    if sum(file.stat().st_size for file in files) > max_bytes:
        raise too_large(url, max_bytes)
    try:
        for file in files:
            place = target / file.relative_to(source) if source.is_dir() else target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    except OSError as error:
        raise PipelineError(f"data.file_url={url!r} can't be read: {error}") from error
    return {}


def check(path: Path, url: str, sha256: str | None) -> None:
    """Refuse what can't be the data set, before it becomes an artifact.

    Raises:
        PipelineError: another checksum, an empty file, a web page, or a header with no rows.
    """
    found = content_digest(path)
    if sha256 and found != sha256.lower():
        raise PipelineError(
            f"{url!r} has SHA-256 {found}, and data.sha256 is {sha256}",
            "the data changed: check it, then set data.sha256 to the new checksum or to null",
        )
    form = detect_format(path)
    if form in ("sqlite", "tar"):
        raise PipelineError(*REFUSED[form](url, path))
    if form == "csv":
        _check_text(path, url)


REFUSED: dict[str, Callable[[str, Path], tuple[str, str]]] = {
    "tar": lambda url, _: (f"{url!r} is a tar archive", "unpack it, and name one of its files"),
    "sqlite": lambda url, _: (
        f"{url!r} is a database of SQLite, not a table",
        "name one of its tables: data.file_url='sqlite:///path/to/it?table=NAME'",
    ),
}


def _check_text(path: Path, url: str) -> None:
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
