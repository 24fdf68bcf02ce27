"""An HTTP server on the loopback interface that fails as it is told."""

import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """What the server answers at a path: faults first, in their order, then the body."""

    body: bytes
    faults: list[str | int]
    headers: dict[str, str]
    asked: int = 0
    _news: threading.Condition = field(default_factory=threading.Condition)

    def ask(self) -> None:
        """Count a request."""
        with self._news:
            self.asked += 1
            self._news.notify_all()

    def await_asked(self, count: int) -> None:
        """Wait until so many requests are here; a busy machine reads them late."""
        with self._news:
            assert self._news.wait_for(lambda: self.asked >= count, timeout=120)


class Handler(BaseHTTPRequestHandler):
    """Answers with a page, or fails as it says: reset, slow, truncated, unsized, or a status."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        if page is None:
            return self.send_error(404)
        page.ask()
        fault = page.faults.pop(0) if page.faults else None
        self.close_connection = True
        if isinstance(fault, int):
            return self.send_error(fault)
        if fault == "slow":
            self.server.closing.wait()
            return None
        if fault == "reset":
            abort = struct.pack("ii", 1, 0)  # close() then sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
            return None
        self.send_response(200)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if fault != "unsized":
            self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        cut = len(page.body) // 2 if fault in ("truncated", "stalled") else None
        self.wfile.write(page.body[:cut])
        self.wfile.flush()
        if fault == "stalled":
            self.server.closing.wait()
        return None

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


class Server(ThreadingHTTPServer):
    """An HTTP server on the loopback interface."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, Page] = {}
        self.closing = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are expected."""

    def shutdown_request(self, request: socket.socket) -> None:
        """Close at once; the usual polite end would come before a reset."""
        self.close_request(request)

    def page(self, path: str, body: bytes, *faults: str | int, **headers: str) -> str:
        """Serve a body at a path; its address."""
        self.pages[path] = Page(body, [*faults], headers)
        return f"http://127.0.0.1:{self.server_port}{path}"
