"""Cloud storage on loopback: emulators of Google and Azure; stand-ins for Amazon and Hugging Face.

A stand-in answers what fetching asks of it. Emulators of Amazon need packages that our lock can't
have.
"""

import contextlib
import hashlib
import json
import re
import socket
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import requests
from azure.storage.blob import BlobServiceClient

from tests.support import servers
from tests.support.runs import environment
from tests.support.serving import serving

SECRET = "secret-of-the-tests"
WRONG = "wrong-secret-of-the-tests"
# of this machine's user
CLEARED = ("AWS_", "AZURE_", "FSSPEC_", "GOOGLE_", "HF_", "HUGGING", "STORAGE_EMULATOR")


@dataclass
class Cloud:
    """A folder in cloud storage.

    Attributes:
        url: its address.
        put: stores a file: its name in the folder, and its content.
        variables: the environment variables with which the libraries reach it.
        wrong: those that differ with wrong credentials.
        elsewhere: those that differ for a server at another address.
        server: the stand-in.
    """

    url: str
    put: Callable[[str, bytes], object]
    variables: dict[str, str]
    wrong: dict[str, str]
    elsewhere: Callable[[str], dict[str, str]]
    server: "StandIn | None" = None


class StandIn(ThreadingHTTPServer):
    """A server with files, for one secret.

    Attributes:
        files: their contents by name.
        refused: whether signed addresses are refused.
    """

    daemon_threads = True

    def __init__(self, handler: type["Handler"]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.files: dict[str, bytes] = {}
        self.refused = False

    def handle_error(self, *_: object) -> None:
        """Clients that go away are expected."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """What the stand-ins have in common."""

    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_GET(self) -> None:
        """Answer with a status, a body and headers."""
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        self.send(*self.answer(unquote(address.path), query))

    do_HEAD = do_GET

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """The answer of this kind of storage; here, that credentials are wrong."""
        message = {"error": {"code": 401, "message": "Anonymous caller does not have access"}}
        return 401, json.dumps(message).encode(), {}

    def content(self, name: str) -> tuple[int, bytes, dict[str, str]]:
        """A file, or the part of it that is asked for."""
        body = self.server.files[name]
        headers = {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        headers["Last-Modified"] = "Wed, 21 Oct 2015 07:28:00 GMT"  # whatever changes
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or ""):
            first, last = int(part[1]), int(part[2] or len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            return 206, body[first : last + 1], headers
        return 200, body, headers

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Send an answer; its length alone to HEAD."""
        self.send_response(status)
        for key, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


class Amazon(Handler):
    """S3's HeadObject, GetObject and ListObjectsV2, in a bucket ``bucket``."""

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """Answer to those who know the secret; it is the name of the key, not only signed with."""
        if f"Credential={SECRET}/" not in self.headers.get("Authorization", ""):
            return 403, b"<Error><Code>AccessDenied</Code></Error>", {}
        bucket, _, name = path.strip("/").partition("/")
        if bucket != "bucket":
            return 404, b"<Error><Code>NoSuchBucket</Code></Error>", {}
        if "list-type" in query:
            return 200, self.listing(query.get("prefix", "")).encode(), {}
        return self.content(name) if name in self.server.files else (404, b"", {})

    def listing(self, prefix: str) -> str:
        """The files and the folders under a prefix."""
        files = {name: body for name, body in self.server.files.items() if name.startswith(prefix)}
        folders = {f"{prefix}{name[len(prefix) :].partition('/')[0]}/" for name in files
                   if "/" in name[len(prefix) :]}  # fmt: skip
        contents = [
            f"<Contents><Key>{escape(name)}</Key><Size>{len(body)}</Size>"
            "<LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>"
            for name, body in files.items()
            if "/" not in name[len(prefix) :]
        ]
        contents += [
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            for name in sorted(folders)
        ]
        count = f"<KeyCount>{len(contents)}</KeyCount><IsTruncated>false</IsTruncated>"
        return f"<ListBucketResult>{count}{''.join(contents)}</ListBucketResult>"


class HuggingFace(Handler):
    """The hub's endpoints for the files of a private data set, ``team/data``."""

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """Answer to those with the token; a file's content is at a signed address."""
        kind, _, rest = path.partition("team/data")
        if kind == "/signed/":
            return (403, b"", {}) if self.server.refused else self.content(rest[1:])
        if self.headers["Authorization"] != f"Bearer {SECRET}":
            return 401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"}
        if kind == "/datasets/" and (name := rest.split("/", 3)[-1]) in self.server.files:
            signed = f"/signed/team/data/{quote(name)}?X-Amz-Signature={SECRET}"
            return 302, b"", {"Location": f"{self.server.url}{signed}"}
        if kind != "/api/datasets/":
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        if rest.startswith("/tree/main"):
            folder, recursive = rest.removeprefix("/tree/main").strip("/"), query["recursive"]
            entries = [*self.entries(f"{folder}/" if folder else "", recursive == "true")]
            return 200, json.dumps(entries).encode(), {}
        return 200, json.dumps({"id": "team/data", "sha": "0" * 40, "siblings": []}).encode(), {}

    def entries(self, folder: str, recursive: bool) -> Iterator[dict[str, str | int]]:
        """The files and folders in a folder."""
        folders = set()
        for name, body in self.server.files.items():
            first, slash, _ = name.removeprefix(folder).partition("/")
            if not name.startswith(folder):
                continue
            if slash and not recursive:
                folders.add(folder + first)
            else:
                oid = hashlib.sha1(body).hexdigest()
                yield {"type": "file", "path": name, "size": len(body), "oid": oid}
        for name in sorted(folders):
            yield {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}


@contextlib.contextmanager
def stand_in(handler: type[Handler]) -> Iterator[StandIn]:
    """A server in this process."""
    with StandIn(handler) as server, serving(server):
        yield server


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never answers; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def amazon() -> Iterator[Cloud]:
    """A bucket in S3."""
    with stand_in(Amazon) as server:
        variables = {"AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": SECRET}
        variables |= {"AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
        wrong = {"AWS_ACCESS_KEY_ID": WRONG, "AWS_SECRET_ACCESS_KEY": WRONG}
        yield Cloud(
            "s3://bucket", server.files.__setitem__, variables, wrong,
            lambda url: {"AWS_ENDPOINT_URL": url}, server,
        )  # fmt: skip


@contextlib.contextmanager
def google(home: Path) -> Iterator[Cloud]:
    """A bucket in Google's storage; the emulator takes any credentials."""
    port = servers.free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--in-memory", "--default-bucket", "bucket", "--quiet"]
    with (
        servers.process(command, port, home / "google.log", env=environment(home), cwd=home),
        stand_in(Handler) as refusing,
    ):
        url = f"http://127.0.0.1:{port}"

        def put(name: str, body: bytes) -> None:
            parameters = {"uploadType": "media", "name": name}
            address = f"{url}/upload/storage/v1/b/bucket/o"
            requests.post(address, params=parameters, data=body, timeout=60).raise_for_status()

        def elsewhere(url: str) -> dict[str, str]:
            return {"STORAGE_EMULATOR_HOST": url}

        yield Cloud("gs://bucket", put, elsewhere(url), elsewhere(refusing.url), elsewhere)


@contextlib.contextmanager
def azure(home: Path) -> Iterator[Cloud]:
    """A container in Azure."""
    with servers.azurite(home) as connection:
        account = BlobServiceClient.from_connection_string(connection)
        container = account.create_container("data")
        name, key = "AZURE_STORAGE_CONNECTION_STRING", b64encode(WRONG.encode() * 3).decode()

        def put(name: str, body: bytes) -> None:
            container.upload_blob(name, body, overwrite=True)

        def elsewhere(url: str) -> dict[str, str]:
            return {name: re.sub(r"http://[\d.:]+", url, connection)}

        wrong = {name: re.sub("AccountKey=[^;]+", f"AccountKey={key}", connection)}
        yield Cloud("abfs://data", put, {name: connection}, wrong, elsewhere)
        account.close()


@contextlib.contextmanager
def hugging_face() -> Iterator[Cloud]:
    """A private data set."""
    with stand_in(HuggingFace) as server:
        variables = {"HF_ENDPOINT": server.url, "HF_TOKEN": SECRET}
        yield Cloud(
            "hf://datasets/team/data", server.files.__setitem__, variables, {"HF_TOKEN": WRONG},
            lambda url: {"HF_ENDPOINT": url}, server,
        )  # fmt: skip


@dataclass
class Clouds:
    """Clouds that are started when a test asks for them.

    Attributes:
        home: a folder for the emulators.
        stack: ends them.
    """

    home: Path
    stack: contextlib.ExitStack
    started: dict[str, Cloud] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Cloud:
        starts = {
            "s3": amazon, "hf": hugging_face,
            "gs": lambda: google(self.home), "az": lambda: azure(self.home),
        }  # fmt: skip
        if name not in self.started:
            self.started[name] = self.stack.enter_context(starts[name]())
        return self.started[name]
