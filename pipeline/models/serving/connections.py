"""HTTP connections with limits for idle clients and for endless requests.

uvicorn has neither limit: a few silent clients could occupy all of its connections.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

LONGEST_HEAD = 65_536  # bytes of a request's headers


def limited(seconds: float, max_bytes: int) -> type[asyncio.Protocol]:
    """The protocol class for a server's connections.

    Args:
        seconds: the idle time after which a connection is closed, within twice that time.
        max_bytes: how much of a refused body is still read.
    """
    base: Any = AutoHTTPProtocol

    class Limited(base):
        def connection_made(self, transport: asyncio.Transport) -> None:
            """Start to watch the connection."""
            super().connection_made(transport)
            self._unread = 0
            self.loop.call_later(seconds, self._check_idle)

        def data_received(self, data: bytes) -> None:
            """Receive data; close the connection if too much is not the body of a request."""
            cycle, in_body = self.cycle, not self._idle() and self.cycle.more_body
            refused = cycle is not None and cycle.more_body and not in_body
            super().data_received(data)
            self._unread = 0 if in_body or self.cycle is not cycle else self._unread + len(data)
            if self._unread > (max_bytes if refused else LONGEST_HEAD):
                self.transport.close()

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _check_idle(self, before: object = None) -> None:
            """Close the connection if it has been idle since the last check."""
            if self.transport.is_closing():
                return
            if self._idle() and before == (self.cycle,):
                self.transport.close()
            else:
                idle = (self.cycle,) if self._idle() else None
                self.loop.call_later(seconds, self._check_idle, idle)

    return Limited
