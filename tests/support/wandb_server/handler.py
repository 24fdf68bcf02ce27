"""The HTTP side: GraphQL, the file stream of a run, and the storage of bytes."""

import base64
import json
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tests.support.wandb_server.encoding import md5_hex
from tests.support.wandb_server.execute import (
    Execution,
    GraphQLFailure,
    Refused,
    operation_name,
)
from tests.support.wandb_server.faults import DROP
from tests.support.wandb_server.operations import UPLOAD_HEADERS, Mutation, Query

if TYPE_CHECKING:
    from tests.support.wandb_server import WandbServer


@dataclass(frozen=True)
class Request:
    """One line of the server's log."""

    method: str
    path: str
    operation: str
    status: int


class Handler(BaseHTTPRequestHandler):
    """Answers one connection; the class attribute ``world`` is the server it belongs to."""

    world: "WandbServer"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet
    etag: str | None = None  # of the part that is answered

    def do_GET(self) -> None:
        """Read bytes."""
        self._answer(b"")

    def do_POST(self) -> None:
        """GraphQL and the file stream."""
        self._answer(self._body())

    def do_PUT(self) -> None:
        """Store bytes."""
        self._answer(self._body())

    def _body(self) -> bytes:
        length, speed = int(self.headers.get("Content-Length") or 0), self._speed()
        if not speed:
            return self.rfile.read(length)
        parts = []
        while length:
            parts.append(self.rfile.read(min(length, speed // 10)))
            length -= len(parts[-1])
            time.sleep(0.1)  # a slow line has no event to wait for
        return b"".join(parts)

    def _speed(self) -> int | None:
        """How many bytes of an upload are read in a second; None: all there are."""
        return self.world.faults.bytes_per_second if self.command == "PUT" else None

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        if not self._is_of_storage():
            if not path.startswith(self.world.prefix):
                return self._reply(HTTPStatus.NOT_FOUND, {"error": f"no such address: {path}"})
            path = path.removeprefix(self.world.prefix)
        query = json.loads(body) if path == "/graphql" else {}
        operation = operation_name(query.get("query", ""))
        status = self.world.faults.verdict(f"{self.command} {path} {operation}")
        answer: Any
        if status is not None:
            answer = self.world.faults.answer(status)
        else:
            try:
                status, answer = self._route(path, query, body)
            except Refused as error:
                status, answer = error.status, {"error": str(error)}
            except Exception as error:  # a mistake of this server, or a question unheard of
                self.world.unanswered.append(f"{operation or path}: {error!r}")
                status, answer = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": repr(error)}
        self._reply(status, answer)
        self.world.note(Request(self.command, path, operation, status))

    def _route(self, path: str, query: dict[str, Any], body: bytes) -> tuple[int, Any]:
        """The status and the answer to a request that meets no fault."""
        if self._is_of_storage():
            key = path.removeprefix("/storage/")
            return self._store(key, body) if self.command == "PUT" else self._load(key)
        if not self._authorized():
            return HTTPStatus.UNAUTHORIZED, {"error": "invalid API key"}
        if path == "/graphql":
            return self._graphql(query)
        if path.startswith("/artifactsV2/"):
            return self._load(path.split("/")[-2])
        if path.endswith("/file_stream"):
            return self._stream(path, json.loads(body))
        return HTTPStatus.NOT_FOUND, {"error": f"no such address: {path}"}

    def _is_of_storage(self) -> bool:
        """Whether the request is for the host that has the bytes, and not for W&B's own."""
        return self.headers.get("Host") == urlsplit(self.world.store.storage_url).netloc

    def _authorized(self) -> bool:
        """Whether the request has the one good key."""
        _, _, encoded = self.headers.get("Authorization", "").partition(" ")
        try:
            return base64.b64decode(encoded).decode() == f"api:{self.world.api_key}"
        except ValueError:
            return False

    def _graphql(self, query: dict[str, Any]) -> tuple[int, Any]:
        store = self.world.store
        try:
            execution = Execution(query["query"], query.get("variables") or {})
            with store.lock:
                root = Mutation(store) if execution.is_mutation else Query(store)
                return HTTPStatus.OK, {"data": execution.run(root)}
        except Refused as error:
            return error.status, {"data": None, "errors": [{"message": str(error)}]}
        except GraphQLFailure as error:
            self.world.unanswered.append(f"{error} ({operation_name(query['query'])})")
            return HTTPStatus.OK, {"data": None, "errors": [{"message": str(error)}]}

    def _stream(self, path: str, message: dict[str, Any]) -> tuple[int, Any]:
        """``/files/{entity}/{project}/{run}/file_stream``."""
        _, _, entity, project, run, _ = path.split("/")
        store = self.world.store
        with store.lock:
            found = store.project(project, entity).run(run)
            if found is None:
                return HTTPStatus.NOT_FOUND, {"error": f"run {run} was not found"}
            found.stream(message)
        return HTTPStatus.OK, {"exitcode": None, "limits": {}}

    def _store(self, key: str, body: bytes) -> tuple[int, Any]:
        """Keep bytes; those of an artifact's file must have the digest they are kept under."""
        digest = md5_hex(body)
        required = [] if key.startswith("parts/") else UPLOAD_HEADERS
        if any(self.headers.get(name) != value for name, value in required):
            return HTTPStatus.FORBIDDEN, {"error": "these headers are not those that were signed"}
        if "/" not in key and digest != key:
            return HTTPStatus.BAD_REQUEST, {"error": "the bytes do not have that digest"}
        with self.world.store.lock:
            if key.startswith("parts/"):
                _, upload, number = key.split("/")
                self.etag = self.world.store.uploads[upload].take(int(number), digest)
                if self.etag is None:
                    return HTTPStatus.BAD_REQUEST, {"error": "that part has another digest"}
            else:
                self.world.store.blobs[key] = body
        return HTTPStatus.OK, {}

    def _load(self, key: str) -> tuple[int, Any]:
        with self.world.store.lock:
            found = self.world.store.blobs.get(key)
        if found is None:
            return HTTPStatus.NOT_FOUND, {"error": f"nothing is stored as {key}"}
        if self.world.faults.wrong_bytes and "/" not in key:
            found = bytes(byte ^ 1 for byte in found)
        return HTTPStatus.OK, found

    def _reply(self, status: int, answer: Any) -> None:
        if status == DROP:
            self.close_connection = True
            return
        if isinstance(answer, bytes):
            kind, body = "application/octet-stream", answer
        elif isinstance(answer, str):
            kind, body = "text/html", answer.encode()
        else:
            kind, body = "application/json", json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.etag:
            self.send_header("ETag", self.etag)
            self.etag = None
        if status >= HTTPStatus.BAD_REQUEST and (seconds := self.world.faults.retry_after):
            # Beside HTTP's header, W&B's, when it limits a project's rate:
            # https://docs.wandb.ai/support/models/articles/rate-limit-exceeded-on-metric-logging
            self.send_header("Retry-After", str(seconds))
            self.send_header("RateLimit-Reset", str(seconds))
            self.send_header("RateLimit-Remaining", "0")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """One line per request on stderr, when the server was asked to be verbose."""
        if self.world.verbose:
            print(format % args, file=sys.stderr)
