"""HTTP connections that end when a client keeps one open without a request, or sends no end of it.

uvicorn has no limit for either: a few clients that say nothing would take all of its connections.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

LONGEST_HEAD = 65_536  # bytes of a request before its body


def limited(seconds: float, max_bytes: int) -> type[asyncio.Protocol]:
    """The protocol of a server's connections.

    Args:
        seconds: without a request under way; within twice that the connection is closed.
        max_bytes: that are still read of a body once it is refused.
    """
    base: Any = AutoHTTPProtocol

    class Limited(base):
        def connection_made(self, transport: asyncio.Transport) -> None:
            """Begin to watch."""
            super().connection_made(transport)
            self._unread = 0
            self.loop.call_later(seconds, self._look)

        def data_received(self, data: bytes) -> None:
            """Read on, unless too much has come that is no body of a request under way."""
            before, wanted = self.cycle, not self._idle() and self.cycle.more_body
            refused = before is not None and before.more_body and not wanted
            super().data_received(data)
            self._unread = 0 if wanted or self.cycle is not before else self._unread + len(data)
            if self._unread > (max_bytes if refused else LONGEST_HEAD):
                self.transport.close()

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _look(self, before: object = None) -> None:
            """Close the connection if it is idle and no request has come since the last look."""
            if self.transport.is_closing():
                return
            if self._idle() and before == (self.cycle,):
                self.transport.close()
            else:
                idle = (self.cycle,) if self._idle() else None
                self.loop.call_later(seconds, self._look, idle)

    return Limited
