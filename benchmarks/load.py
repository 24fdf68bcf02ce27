"""Load test of a model server: requests per second, latency, processor time and memory."""

import asyncio
import os
import statistics
import time
from pathlib import Path
from urllib.parse import urlsplit

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Connection:
    """A kept-alive connection that repeats one request, ten times cheaper than an HTTP library."""

    def __init__(self, url: str, body: bytes):
        parts = urlsplit(url)
        self._place = parts.hostname, parts.port
        lines = ("POST /invocations HTTP/1.1", f"host: {parts.netloc}")
        lines += ("content-type: application/json", f"content-length: {len(body)}", "", "")
        self._request = "\r\n".join(lines).encode() + body

    async def __aenter__(self) -> "Connection":
        self._reader, self._writer = await asyncio.open_connection(*self._place)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self) -> bytes:
        """Send the request; return the body of the response.

        Raises:
            RuntimeError: The status is not 200.
        """
        if self._reader.at_eof():  # the server closed the idle connection
            await self.__aenter__()
        self._writer.write(self._request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        response = await self._reader.readexactly(length)
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(response[:500].decode())
        return response


async def load(url: str, body: bytes, clients: int, requests: int) -> dict[str, float]:
    """Measure clients that send requests without a pause, after a first request each.

    Returns:
        The number of requests, their rate per second, and the median and 99th percentile of the
        latency in milliseconds.
    """
    durations: list[float] = []
    connections = [Connection(url, body) for _ in range(clients)]

    async def ask(connection: Connection) -> None:
        while len(durations) + clients <= requests:
            started = time.perf_counter()
            await connection.ask()
            durations.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(connection.__aenter__())
    await asyncio.gather(*(connection.ask() for connection in connections))
    started = time.perf_counter()
    await asyncio.gather(*map(ask, connections))
    seconds = time.perf_counter() - started
    await asyncio.gather(*(connection.__aexit__() for connection in connections))
    return {
        "requests": len(durations),
        "rate": len(durations) / seconds,
        "median": statistics.median(durations) * 1000,
        "p99": statistics.quantiles(durations, n=100)[-1] * 1000,
    }


def family(pid: int) -> list[int]:
    """The ids of a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, including ended children."""
    fields = (Path(f"/proc/{id}/stat").read_text().rpartition(")")[2] for id in family(pid))
    return sum(sum(map(int, stat.split()[11:15])) for stat in fields) / TICKS


def resident_mib(pid: int) -> float:
    """Memory of a process and its descendants; shared memory counts for each of them."""
    pages = (Path(f"/proc/{id}/statm").read_text().split()[1] for id in family(pid))
    return sum(map(int, pages)) * PAGE / 2**20
