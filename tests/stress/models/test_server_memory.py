"""The model server's memory over 20,000 requests."""

import asyncio
from pathlib import Path

from tests.support.model_server import BODIES, of_pokemon, serving

CLIENTS = 50


async def count_answers(port: int, requests: int) -> int:
    """How many of so many requests are answered with a prediction; by bare sockets, kept open."""
    words = "POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    asked = [f"{words}content-length: {len(body)}\r\n\r\n{body}".encode() for body in BODIES]

    async def go(first: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = 0
        for number in range(first, requests, CLIENTS):
            writer.write(asked[number % len(asked)])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            answered += head.startswith(b"http/1.1 200 ") and b"predictions" in body
        writer.close()
        return answered

    return sum(await asyncio.gather(*map(go, range(CLIENTS))))


def test_memory_stays_as_it_is(tmp_path: Path):
    """What 1,000 requests need is there after them, and 19,000 more need nothing beside it."""
    with serving(of_pokemon(tmp_path)) as server:
        assert asyncio.run(count_answers(server.port, 1000)) == 1000
        before = server.resident()
        assert asyncio.run(count_answers(server.port, 19_000)) == 19_000
        assert server.resident() < before + 10_000_000
