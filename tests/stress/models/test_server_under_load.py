"""A model server in a process of its own: crowds, dawdlers, memory, and its end."""

import asyncio
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pandas as pd
import pytest

from pipeline.models.scoring import REASON, LoadedModel
from pipeline.models.serving.settings import read
from tests.support import hanging_server
from tests.support.model_server import BODIES, LABEL, ROWS, Running, of_pokemon, serving
from tests.support.paths import ROOT
from tests.support.servers import free_port

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model of the Pokémon."""
    folder = tmp_path_factory.mktemp("model")
    return of_pokemon(folder)


async def ask(port: int, clients: int, bodies: list[str]) -> list[httpx.Response]:
    """The answers to requests, in order, from so many clients with a connection each."""
    url = f"http://127.0.0.1:{port}/invocations"
    answers: dict[int, httpx.Response] = {}

    async def go(first: int) -> None:
        async with httpx.AsyncClient(timeout=300, trust_env=False, verify=False) as client:
            for number in range(first, len(bodies), clients):
                answers[number] = await client.post(url, content=bodies[number], headers=JSON)

    await asyncio.gather(*map(go, range(clients)))
    return [answers[number] for number in range(len(bodies))]


def drain(connection: socket.socket) -> bytes:
    """All that a server sends until it closes the connection."""
    told = b""
    while part := connection.recv(10_000):
        told += part
    return told


def send_endlessly(connection: socket.socket) -> None:
    """A head that does not end."""
    connection.sendall(b"GET /ping HTTP/1.1\r\n")
    while True:
        connection.sendall(b"a: " + b"b" * 10_000 + b"\r\n")


def connect_endlessly(server: Running) -> None:
    """Connections, as long as somebody listens."""
    while True:
        server.connect().close()


@pytest.mark.parametrize("workers", [1, 2])
def test_two_hundred_clients_at_once_get_their_own_answers(model: LoadedModel, workers: int):
    scored = model.score(pd.DataFrame(ROWS, dtype="str")).drop(columns=REASON)
    with serving(model, workers=workers) as server:
        answers = asyncio.run(ask(server.port, 200, BODIES))
    assert [answer.json()["predictions"] for answer in answers] == [
        [record] for record in scored.to_dict("records")
    ]


def test_dawdlers_are_refused(model: LoadedModel):
    """Whatever has come of a request: nothing, a part of its head or body, an endless head."""
    with serving(model, timeout=0.5) as server:
        for begun in (b"", b"POST /invoc", b"GET /ping HTTP/1.1\r\nhost: a\r\n\r\nGET"):
            with server.connect() as connection:
                connection.sendall(begun)
                drain(connection)
        with server.connect() as connection, pytest.raises(ConnectionError):
            send_endlessly(connection)
        with server.connect() as connection:
            head = "POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-type: text/csv\r\n"
            connection.sendall(f"{head}content-length: 100\r\n\r\na,b".encode())
            told = drain(connection)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b"the body took longer than 0.5 s" in told


def test_odd_http(model: LoadedModel):
    """A client that goes away, bodies in one piece and in many, and what is no HTTP at all."""
    head = b"POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    deep, body = b"[" * 900_000, BODIES[0].encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    end = b"connection: close\r\n"
    with serving(model) as server:
        with server.connect() as connection:
            connection.sendall(head + b"content-length: 100\r\n\r\n{")
        for request, status in {
            head + end + b"content-length: 900000\r\n\r\n" + deep: 400,
            head + end + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n": 200,
            head + end + b"transfer-encoding: chunked\r\n\r\nZ\r\n": 400,
            head + end + b"content-length: 1\r\ncontent-length: 2\r\n\r\n12": 400,
            b"HEAD /invocations HTTP/1.1\r\nhost: a\r\n" + end + b"\r\n": 405,
            b"GET /invocations/ HTTP/1.1\r\nhost: a\r\n" + end + b"\r\n": 404,
            b"\x16\x03\x01\x02\x00\x01\x00\x01": 400,
        }.items():
            with server.connect() as connection:
                connection.sendall(request)
                assert drain(connection).startswith(b"HTTP/1.1 %d " % status), request[-200:]


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_is_no_error_of_the_server(model: LoadedModel, workers: int):
    with serving(model, workers=workers) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 130


def test_ctrl_c_before_the_first_answer(model: LoadedModel):
    told = {"label": LABEL, "wanted": "1", **vars(read([], {"port": free_port()}))}
    words = ["-m", "tests.support.interrupted_server", str(model.folder), json.dumps(told)]
    ended = subprocess.run([sys.executable, *words], cwd=ROOT, timeout=120, capture_output=True)
    assert (ended.returncode, ended.stderr) == (130, b"")


def test_too_many_connections_and_the_end_of_a_server(model: LoadedModel):
    """SIGTERM: what is under way is answered, no one else is, and its workers end with it."""
    with serving(model, workers=2, max_connections=4) as server:
        body = BODIES[0].encode()
        head = "POST /invocations HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        with server.connect() as connection:
            connection.sendall(f"{head}expect: 100-continue\r\n".encode())
            connection.sendall(f"content-length: {len(body)}\r\n\r\n".encode() + body[:10])
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # it is under way
            idle = [server.connect() for _ in range(3)]
            answer = httpx.get(f"http://127.0.0.1:{server.port}/ping", timeout=60)
            assert (answer.status_code, answer.text) == (503, "Service Unavailable")
            for one in idle:
                one.close()
            workers = [os.pidfd_open(pid) for pid in server.workers()]
            assert len(workers) >= 2
            server.process.terminate()
            with pytest.raises(ConnectionError):
                connect_endlessly(server)
            connection.sendall(body[10:])
            told = drain(connection)
            assert told.startswith(b"HTTP/1.1 200 ")
            assert b"predictions" in told
        assert server.process.wait(60) == 0
        await_ends(workers)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_frozen_workers_end_with_their_server(model: LoadedModel, sent: signal.Signals):
    with serving(model, workers=2) as server:
        scoring = [p for p in server.workers() if b"spawn_main" in cmdline(p)]
        workers = [os.pidfd_open(pid) for pid in scoring]
        assert len(workers) == 2
        for worker in workers:
            signal.pidfd_send_signal(worker, signal.SIGSTOP)
        server.process.send_signal(sent)
        assert server.process.wait(60) == (130 if sent is signal.SIGINT else 0)
        await_ends(workers)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_batch_that_hangs_in_a_thread_keeps_neither_others_nor_the_server(
    model: LoadedModel, sent: signal.Signals
):
    row = {**ROWS[0], "HP": hanging_server.HANGS}
    with serving(model, "tests.support.hanging_server", workers=1, timeout=2) as server:
        hangs = json.dumps({"dataframe_records": [row]})
        answers = asyncio.run(ask(server.port, 1, [hangs, hangs, hangs, BODIES[0]]))
        assert [answer.status_code for answer in answers] == [504, 504, 504, 200]
        server.process.send_signal(sent)
        assert server.process.wait(60) == (130 if sent is signal.SIGINT else 0)
        assert "serve.workers=2 scores in processes" in server.log.read_text()


def cmdline(pid: int) -> bytes:
    """How a process was started."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def await_ends(descriptors: list[int]) -> None:
    """Wait until processes, by their pidfds, have ended."""
    for one in descriptors:
        with selectors.DefaultSelector() as ended:
            ended.register(one, selectors.EVENT_READ)
            assert ended.select(60)
        os.close(one)
