"""Fetches a data set unchanged from its address, and checks that it can be a table."""

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

from pipeline.core.data.addresses import PLACES, check_file_url, is_query
from pipeline.core.data.formats import detect_format, parquet_files, parquet_size
from pipeline.core.errors import PipelineError
from pipeline.core.files import content_digest
from pipeline.sources.errors import too_large

WEB = ("http", "https")
# Decompressors, by magic number
PACKED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
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
        url: the address of a web server, a file, cloud storage or a database.
        target: the path to write.
        max_bytes: the largest accepted size.
        timeout: seconds to wait for an answer.
        retries: further attempts after a failed request to a web server.
        query: SQL for a database; None: the address names a table.

    Returns:
        The version that was fetched, such as a web server's ``etag``.

    Raises:
        Unreachable: no answer after all attempts.
        PipelineError: the data set does not exist, or is larger than ``max_bytes``.
    """
    scheme = url.partition(":")[0].lower()
    if is_query(url, query):
        from pipeline.sources import queries

        return queries.fetch(url, query, target, max_bytes)
    if scheme == "file":
        version = copy(url, target, max_bytes)
    elif scheme in WEB:
        from pipeline.sources import web

        version = web.fetch(url, target, max_bytes, timeout, retries)
    elif scheme in PLACES:
        from pipeline.sources import places

        version = places.fetch(url, target, max_bytes, timeout)
    else:
        raise _unknown(url)
    if unpacks_to_more(target, max_bytes):
        raise too_large(url, max_bytes)
    return version


def _unknown(url: str) -> PipelineError:
    return PipelineError(
        f"data.file_url={url!r}: only http, https and file addresses, cloud storage "
        f"({', '.join(PLACES[:-1])}) and databases with a query are fetched",
        "use an absolute file:///path/to/data.csv for a local file, and for a database "
        "?table=NAME at the end of its address, or data.query=...",
    )


def unpacks_to_more(path: Path, max_bytes: int) -> bool:
    """Whether a compressed file, maybe in several layers, unpacks to more than ``max_bytes``.

    For a folder, whether its Parquet files do.
    """
    if detect_format(path) == "parquet":
        return parquet_size(path) > max_bytes
    try:
        with contextlib.ExitStack() as opened:
            if zipfile.is_zipfile(path):  # zipfile reads no more bytes than declared
                archive = opened.enter_context(zipfile.ZipFile(path))
                return any(file.file_size > max_bytes for file in archive.infolist())
            stream: Any = opened.enter_context(path.open("rb"))
            packed = False
            for _ in range(LEVELS):
                openers = [
                    opener
                    for magic, opener in PACKED.items()
                    if stream.peek(6)[:6].startswith(magic)
                ]
                if not openers:
                    break
                packed, stream = True, opened.enter_context(openers[0](stream))
            size = 0
            while packed and size <= max_bytes and (chunk := stream.read(CHUNK)):
                size += len(chunk)
            return size > max_bytes
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile):
        return False  # damaged, which 2-ETL reports


def copy(url: str, target: Path, max_bytes: int) -> dict[str, str]:
    """Copy a ``file:`` address to ``target``; for a folder, its Parquet files."""
    check_file_url("data.file_url", url)
    source = Path(unquote(urlsplit(url).path))
    if not source.is_absolute():
        raise PipelineError(
            f"data.file_url={url!r} is relative", "give the whole path: file:///path/to/data.csv"
        )
    files = parquet_files(source) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        detail = "; the folder has no .parquet files" if source.is_dir() else ""
        raise PipelineError(
            f"data.file_url={url!r}: there is no file {source}{detail}",
            "check the path; an address begins with https:// or http://",
        )
    if sum(file.stat().st_size for file in files) > max_bytes:
        raise too_large(url, max_bytes)
    try:
        for file in files:
            destination = target / file.relative_to(source) if source.is_dir() else target
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, destination)
    except OSError as error:
        raise PipelineError(f"data.file_url={url!r} can't be read: {error}") from error
    return {}


def check(path: Path, url: str, sha256: str | None) -> None:
    """Refuse a file that can't be the data set, before it becomes an artifact.

    Raises:
        PipelineError: a wrong checksum, an empty file, a web page, or a header without rows.
    """
    digest = content_digest(path)
    if sha256 and digest != sha256.lower():
        raise PipelineError(
            f"{url!r} has SHA-256 {digest}, and data.sha256 is {sha256}",
            "the data changed: check it, then set data.sha256 to the new checksum or to null",
        )
    file_format = detect_format(path)
    if file_format in ("sqlite", "tar"):
        raise PipelineError(*REFUSED[file_format](url, path))
    if file_format == "csv":
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
        filled_lines = (line for line in lines if line.strip(b"\0\n "))  # UTF-16 is full of zeros
        if len(list(itertools.islice(filled_lines, 2))) < 2:
            raise PipelineError(f"{url!r} has a header and no rows", "check data.file_url")
