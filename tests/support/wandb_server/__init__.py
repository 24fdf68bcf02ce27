"""A W&B server for tests: the real client talks to it over HTTP, and its state is in memory.

It answers what the client's service process and ``wandb.Api()`` ask about runs and artifacts, and
can be told to do it wrong (:class:`tests.support.wandb_server.faults.Faults`). Nothing of the
client is imported or replaced.
"""

import contextlib
import socket
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any

from tests.support.wandb_server.artifacts import Artifact
from tests.support.wandb_server.faults import DROP, Faults
from tests.support.wandb_server.handler import Handler, Request
from tests.support.wandb_server.runs import Run
from tests.support.wandb_server.store import Store

__all__ = ["DROP", "WandbServer"]

HOST, STORAGE_HOST = "127.0.0.1", "localhost"


class WandbServer:
    """The server; use it as a context manager.

    Attributes:
        api_key: the one key that is accepted.
        entity: the name of the one user.
        prefix: the path before all others, as behind a proxy: ``/wandb``.
        faults: what it does wrong on purpose.
        requests: all requests so far.
        unanswered: questions about which it knows nothing.
    """

    def __init__(self, port: int = 0, entity: str = "tester", verbose: bool = False):
        self.api_key = "0123456789" * 4
        self.entity = entity
        self.verbose = verbose
        self.prefix = ""
        self.faults = Faults()
        self.store = Store(entity)
        self.requests: list[Request] = []
        self.unanswered: list[str] = []
        self._port = port
        self._news = Condition()
        self._http: _Listener | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self._port}{self.prefix}"

    def environment(self) -> dict[str, str]:
        """The variables that make a client use this server, and no other."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": self.api_key,
            "WANDB_ERROR_REPORTING": "false",
            "NO_PROXY": f"{HOST},{STORAGE_HOST}",
        }

    @property
    def runs(self) -> dict[str, Run]:
        """All runs by their short id, oldest first."""
        with self.store.lock:
            projects = self.store.projects.values()
            return {name: run for one in projects for name, run in one.runs_by_id.items()}

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """All finished versions by ``name:v0``, oldest first."""
        with self.store.lock:
            projects = self.store.projects.values()
            collections = [found for one in projects for found in one.collections.values()]
            return {one.name: one for found in collections for one in found.live}

    def start(self) -> None:
        """Listen; after :meth:`stop`, on the same port and with the same state."""
        handler = type("BoundHandler", (Handler,), {"world": self})
        self._http = _Listener((HOST, self._port), handler)
        self._port = self._http.server_address[1]
        self.store.storage_url = f"http://{STORAGE_HOST}:{self._port}/storage"
        Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Die: close the port and cut all connections; the state stays."""
        self.faults.clear()
        if self._http is not None:
            self._http.die()
            self._http = None

    def __enter__(self) -> "WandbServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def corrupt(self, artifact: str, path: str | None = None) -> None:
        """Change the stored bytes of a file of ``name:v0``; of its first one, by default."""
        found = self.artifacts[artifact]
        with self.store.lock:
            key = found.blob_key(path or min(found.manifest))
            self.store.blobs[key] = b"\0" + self.store.blobs[key][1:]

    def note(self, request: Request) -> None:
        """Add a request to the log, and wake those who wait for one."""
        with self._news:
            self.requests.append(request)
            self._news.notify_all()

    def wait_for(self, condition: Callable[[], Any], timeout: float = 30) -> bool:
        """Wait until a condition holds, looking at it after each request."""
        with self._news:
            return bool(self._news.wait_for(condition, timeout))


class _Listener(ThreadingHTTPServer):
    """A threading server whose connections can be cut."""

    daemon_threads = True

    def __init__(self, *args: Any):
        self.connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        # or what a slow line has not taken yet would count as sent
        request.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or that was cut off, is no news."""

    def die(self) -> None:
        """Stop listening, then cut what is connected."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
