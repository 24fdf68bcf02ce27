"""Addresses of data sets and of MLflow's folders, and the names that come from them."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from pipeline.core.errors import PipelineError
from pipeline.core.security import secrets
from pipeline.core.settings import LONGEST_NAME

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")  # of an address
PACKED = "gz|bz2|xz|zip|zst"  # suffixes that a data set's name does not have
FORMATS = "csv|tsv|tab|txt|data|dat|parquet|pq|jsonl|ndjson|json|xlsx|xls|xlsb|ods|db|sqlite3?"
# Cloud storage that fsspec reads; its memory is for tests
PLACES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hf", "memory")


def check_file_url(setting: str, url: str) -> None:
    """Refuse a ``file:`` address on another machine, as its path would be read on this machine.

    Raises:
        PipelineError: the address names a host.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() == "file" and parts.netloc.lower() not in ("", "localhost"):
        raise PipelineError(
            f"{setting} is a file on the machine {parts.hostname!r}, which can't be read here",
            "mount it and give its path here: file:///path/to/data.csv",
        )


def local_folder(address: str) -> Path | None:
    """The folder of a local address; None for others."""
    parts = urlsplit(address)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path) if parts.scheme else address)


def is_query(url: str, query: str | None = None) -> bool:
    """Whether an address is that of a database, with a query or a table."""
    scheme = url.partition(":")[0].lower()
    if scheme in ("http", "https", "file", *PLACES) or not re.match(r"[\w+]+://", url):
        return False
    return bool(query or not {"table", "query"}.isdisjoint(_options(url)))


def _options(url: str) -> dict[str, str]:
    return dict(parse_qsl(secrets.query_of(url), keep_blank_values=True))


def dataset_name(url: str) -> str:
    """The name of a data set by its address: that of its file or its database table."""
    address = secrets.without_login(without_references(url)).partition("?")[0]
    table = _options(without_references(url)).get("table") if is_query(url) else None
    stem = table or Path(unquote(address).rstrip("/")).name
    for suffix in (PACKED, FORMATS):
        stem = re.sub(rf"\.({suffix})$", "", stem, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9-]+", "_", stem).strip("_-").lower()[:LONGEST_NAME] or "table"


def file_suffix(url: str, query: str | None = None) -> str:
    """The suffix of a data set's file, such as ``.csv.gz``."""
    if is_query(url, query):
        return ".parquet"  # the format of a stored query result
    end = rf"(?:\.(?:{FORMATS}))?(?:\.(?:{PACKED}))?$"
    suffix = re.search(end, without_references(url).partition("?")[0].lower())
    if suffix and suffix[0]:
        return suffix[0]
    return ".parquet" if Path(unquote(urlsplit(url).path)).is_dir() else ".csv"  # a folder of parts


def without_references(url: str) -> str:
    """An address without its references to environment variables."""
    return re.sub(r"\$\{[^}]*\}", "", url)


def file_address(url: str) -> str:
    """The absolute ``file:`` address of a path; other addresses unchanged.

    A path, also of a SQLite database, is relative to the current folder; ``~`` is the user's home.
    """
    if database := re.match(r"(sqlite(?:\+\w+)?:///)([^/?$][^?]*)", url):
        return f"{database[1]}{Path(database[2]).absolute()}{url[database.end() :]}"
    scheme, colon, rest = url.partition(":")
    if scheme.lower() == "file":
        return url if rest.startswith("/") else Path(rest).absolute().as_uri()
    if not url.strip() or (colon and SCHEME.fullmatch(scheme.strip())):
        return url
    return Path(url).expanduser().absolute().as_uri()
