"""Whether an address has the same content still, as its server says or as it is."""

import contextlib
import sqlite3
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pandas as pd
import pytest

from pipeline.cache import sources
from pipeline.core.files import content_digest, file_digest
from pipeline.sources import fetching
from tests.support.serving import serving


class Server(ThreadingHTTPServer):
    """A server whose ETag stays what it is, whatever its content."""

    content, etag, asked = b"a,b\n1,2\n", '"1"', 0

    @property
    def url(self) -> str:
        """The address of its only file."""
        return f"http://127.0.0.1:{self.server_port}/data.csv"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        """Send the file, or say that it is the same."""
        self.server.asked += 1
        same = self.headers.get("If-None-Match") == self.server.etag
        self.send_response(304 if same else 200)
        self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", "0" if same else str(len(self.server.content)))
        self.end_headers()
        if not same:
            self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running, serving(running):
        yield running


@pytest.fixture
def source(server: Server, tmp_path: Path) -> dict[str, str]:
    """What is known of the server's file."""
    file = tmp_path / "data.csv"
    file.write_bytes(server.content)
    return {"url": server.url, "digest": file_digest(file), "etag": server.etag}


def test_a_server_that_keeps_its_etag_is_believed_unless_the_content_is_compared(
    server: Server, source: dict[str, str]
) -> None:
    for how in ("etag", "content", "never"):
        assert sources.changed(source, how) is None
    server.content = b"a,b\n3,4\n"
    assert sources.changed(source, "etag") is None
    assert sources.changed(source, "never") is None
    assert sources.changed(source, "content") == f"{server.url} has changed"


def test_content_that_is_the_same_under_another_etag(
    server: Server, source: dict[str, str]
) -> None:
    server.etag = '"2"'
    assert sources.changed(source, "etag") == f"{server.url} has changed"
    assert sources.changed(source, "content") is None


def test_content_is_read_up_to_the_size_of_the_source(
    server: Server, source: dict[str, str | int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which data.max_bytes has allowed: what an address has grown to since is not read."""
    source["bytes"] = len(server.content)
    assert sources.changed(source, "content") is None
    server.content = server.content * 1_000_000
    read: list[int] = []
    digest = sources.hashlib.sha256

    def counted() -> SimpleNamespace:
        return SimpleNamespace(update=lambda chunk: read.append(len(chunk)), hexdigest=digest)

    monkeypatch.setattr(sources.hashlib, "sha256", counted)
    assert sources.changed(source, "content") == f"{server.url} has changed"
    assert sum(read) <= sources.CHUNK


def test_never_asks_nobody_and_neither_does_a_checksum(
    server: Server, source: dict[str, str]
) -> None:
    assert sources.changed(source, "never") is None
    assert sources.changed({**source, "sha256": source["digest"]}, "content") is None
    assert server.asked == 0


def test_a_file_is_compared_in_any_case(tmp_path: Path) -> None:
    file = tmp_path / "a file.csv"
    file.write_text("1")
    source = {"url": file.as_uri(), "digest": file_digest(file)}
    assert [sources.changed(source, how) for how in ("etag", "content", "never")] == [None] * 3
    file.write_text("2")
    for how in ("etag", "content", "never"):
        assert sources.changed(source, how) == f"{file.as_uri()} has changed"
    file.unlink()
    with pytest.raises(sources.Unreachable, match="is gone"):
        sources.changed(source)


def test_a_folder_a_database_and_a_cloud_are_compared(tmp_path: Path) -> None:
    """A folder by its Parquet parts, an answer by asking again, a cloud by what it says."""
    table = pd.DataFrame({"a": [1, 2]})
    (tmp_path / "parts").mkdir()
    table.to_parquet(tmp_path / "parts" / "1.parquet")
    table.to_parquet(tmp_path / "parts" / "2.parquet")

    def change_database() -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "town.db")) as store:
            table.to_sql("houses", store, index=False, if_exists="append")

    def change_cloud() -> None:
        with fsspec.filesystem("memory").open("/bucket/data.csv", "ab") as file:
            file.write(b"a,b\n1,2\n")

    change_database()
    change_cloud()
    changes = {
        (tmp_path / "parts").as_uri(): lambda: table[:1].to_parquet(tmp_path / "parts/2.parquet"),
        f"sqlite:///{tmp_path}/town.db?table=houses": change_database,
        "memory://bucket/data.csv": change_cloud,
    }
    for number, (url, change) in enumerate(changes.items()):
        target = tmp_path / str(number)
        known = fetching.fetch(url, target, 10**6, 5, 0)
        source = {"url": url, "digest": content_digest(target), "bytes": 9, **known}
        for way in ("etag", "content", "never"):
            assert sources.changed(source, way) is None
        change()
        for way in ("etag", "content"):
            assert sources.changed(source, way) == f"{url} has changed"
    with pytest.raises(sources.Unreachable, match="no such table: hoses"):
        sources.changed({**source, "url": f"sqlite:///{tmp_path}/town.db?table=hoses"})
    undriven = sources.changed({**source, "url": "mysql://host/town?table=houses"})
    assert undriven == "the driver 'MySQLdb' of 'mysql' is not installed, so it is fetched again"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)
    with pytest.raises(sources.Unreachable, match="can't be read"):
        sources.changed(source)
