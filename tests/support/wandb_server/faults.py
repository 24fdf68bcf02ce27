"""What the server does wrong on purpose."""

from collections import deque
from http import HTTPStatus
from threading import Event, Lock
from time import sleep

DROP = 0  # in place of a status: close the connection without an answer

# What a gateway before the servers answers for them with 502, 503 and 504, in place of JSON:
# http_error_502_page in https://github.com/nginx/nginx/blob/master/src/http/ngx_http_special_response.c
GATEWAY = (502, 503, 504)
PAGE = """<html>
<head><title>{status} {phrase}</title></head>
<body>
<center><h1>{status} {phrase}</h1></center>
<hr><center>nginx</center>
</body>
</html>
"""


class Faults:
    """Faults to inject; each can be set and taken back at any time.

    Attributes:
        status: answer every request with this status while it is set; :data:`DROP` to hang up.
        only: let faults meet only requests with this text in ``METHOD /path Operation``.
        wrong_bytes: answer downloads with bytes that are not the stored ones.
        retry_after: what the header of that name says with a status, in seconds.
        bytes_per_second: read uploads no faster.
        delays: seconds before requests with a text are answered, by that text.
        given: how many requests have met a fault.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.only = ""
        self.wrong_bytes = False
        self.retry_after: int | None = None
        self.bytes_per_second: int | None = None
        self.delays: dict[str, float] = {}
        self.given = 0
        self._next: deque[int] = deque()
        self._held = ""
        self._released = Event()
        self._lock = Lock()

    def fail_next(self, count: int, status: int = 503) -> None:
        """Answer the next requests with a status, or hang up on them with :data:`DROP`."""
        with self._lock:
            self._next.extend([status] * count)

    def hold(self, only: str) -> None:
        """Leave requests with this text without an answer, until :meth:`clear`."""
        self._held = only
        self._released.clear()

    def verdict(self, request: str) -> int | None:
        """How this request is to fail; None means it is to be answered."""
        if self._held and self._held in request:
            self._released.wait()
        sleep(max((delay for text, delay in self.delays.items() if text in request), default=0))
        with self._lock:
            if self.only not in request:
                return None
            found = self._next.popleft() if self._next else self.status
            self.given += found is not None
            return found

    def answer(self, status: int) -> dict[str, str] | str:
        """What is answered with a status: JSON, or a page that a gateway makes."""
        if status in GATEWAY:
            return PAGE.format(status=status, phrase=HTTPStatus(status).phrase)
        return {"error": "this fault was asked for"}

    def clear(self) -> None:
        """No fault any more."""
        with self._lock:
            self.status, self.only, self.wrong_bytes = None, "", False
            self.retry_after = self.bytes_per_second = None
            self.delays = {}
            self._next.clear()
        self._held = ""
        self._released.set()
