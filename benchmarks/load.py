"""Clients of a model server: requests per second, latency, and what the server spends on them."""

import asyncio
import os
import statistics
import time
from pathlib import Path
from urllib.parse import urlsplit

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Connection:
    """A kept-alive connection that asks the same thing; it costs a tenth of an HTTP library."""

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
        """The body of an answer.

        Raises:
            RuntimeError: its status is not 200.
        """
        if self._reader.at_eof():  # a server closes connections that wait long for their turn
            await self.__aenter__()
        self._writer.write(self._request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        answer = await self._reader.readexactly(length)
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(answer[:500].decode())
        return answer


async def load(url: str, body: bytes, clients: int, requests: int) -> dict[str, float]:
    """What so many clients meet who ask without a pause; they are connected and warm before."""
    taken: list[float] = []
    connections = [Connection(url, body) for _ in range(clients)]

    async def ask(connection: Connection) -> None:
        while len(taken) + clients <= requests:
            started = time.perf_counter()
            await connection.ask()
            taken.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(connection.__aenter__())
    await asyncio.gather(*(connection.ask() for connection in connections))
    started = time.perf_counter()
    await asyncio.gather(*map(ask, connections))
    seconds = time.perf_counter() - started
    await asyncio.gather(*(connection.__aexit__() for connection in connections))
    return {
        "requests": len(taken),
        "rate": len(taken) / seconds,
        "median": statistics.median(taken) * 1000,
        "p99": statistics.quantiles(taken, n=100)[-1] * 1000,
    }


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(one for child in children for one in family(int(child)))]


def processor_seconds(pid: int) -> float:
    """User and system time of a process and those below it, those that have ended included."""
    fields = (Path(f"/proc/{one}/stat").read_text().rpartition(")")[2] for one in family(pid))
    return sum(sum(map(int, told.split()[11:15])) for told in fields) / TICKS


def resident_mib(pid: int) -> float:
    """Memory of a process and those below it; what they share is counted for each."""
    told = (Path(f"/proc/{one}/statm").read_text().split()[1] for one in family(pid))
    return sum(map(int, told)) * PAGE / 2**20
