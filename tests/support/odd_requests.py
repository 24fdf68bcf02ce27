"""Requests of any depth, type, size and encoding, for a server in this process."""

import asyncio
import json
import socket
import string
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.models.serving.bodies import Limits
from pipeline.models.serving.server import Label, ServedModel, Server
from pipeline.science.data import tables
from tests.support.fitted import fitted
from tests.support.paths import POKEMON
from tests.support.registered import CLEANING

JSON, CSV = "application/json", "text/csv"
TITLES = POKEMON.read_text(encoding="utf-8").splitlines()[0].split(",")


class Client:
    """Asks a server without a network; an exception of the server's is one of the test's."""

    def __init__(self, server: Server):
        self.server, self._runner = server, asyncio.Runner()

    def ask(self, body: bytes, kind: str = JSON, path: str = "/invocations", **headers: str):
        """The answer to one request."""
        return self.ask_all([body], kind, path, **headers)[0]

    def get(self, path: str, **headers: str) -> httpx.Response:
        """A page."""

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.server.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as all_:
                return await all_.get(path, headers=headers)

        return self._runner.run(go())

    def ask_all(
        self, bodies: list[bytes], kind: str = JSON, path: str = "/invocations", **headers: str
    ) -> list[httpx.Response]:
        """The answers to requests that are made at once."""

        async def go() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.server.app)
            own = {"content-type": kind.encode("latin-1"), **headers}
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as all_:
                asked = [all_.post(path, content=body, headers=own) for body in bodies]
                return await asyncio.gather(*asked)

        return self._runner.run(go())

    def close(self) -> None:
        """End the loop and the workers."""
        self._runner.close()
        self.server.served.scorers.close()


@contextmanager
def client(folder: Path, workers: int = 1, **limits: float) -> Iterator[Client]:
    """A server of a model of the Pokémon."""
    if not (folder / "model.skops").exists():
        fitted(folder, tables.read_raw(POKEMON), "legendary", ["number", "name"], CLEANING)
    label = Label("pokemon", 1, "", "")
    asked = Client(Server(ServedModel(label, folder, Limits(**limits), workers), "1", "127.0.0.1"))
    try:
        yield asked
    finally:
        asked.close()


@contextmanager
def listening(asked: Client) -> Iterator[str]:
    """The server's address, while it listens in a thread of this process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        running = uvicorn.Server(uvicorn.Config(asked.server.app, log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


ENDLESS = st.sampled_from([float("nan"), float("inf"), -float("inf")])
BIG = st.integers(-(10**400), 10**400)
CELLS = st.none() | st.booleans() | st.integers() | BIG | st.floats() | ENDLESS | st.text()
VALUES = st.recursive(
    CELLS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(TITLES, CELLS)), max_size=4)
SPLIT = st.lists(st.lists(CELLS, min_size=len(TITLES), max_size=len(TITLES)), max_size=4)
DOCUMENTS = (
    VALUES
    | ROWS.map(lambda rows: {"dataframe_records": rows})
    | VALUES.map(lambda value: {"dataframe_records": value})
    | SPLIT.map(lambda rows: {"dataframe_split": {"columns": TITLES, "data": rows}})
    | st.dictionaries(st.sampled_from(["columns", "data", "index"]), VALUES).map(
        lambda value: {"dataframe_split": value}
    )
)
HALVES = st.sampled_from(['{"dataframe_records": [{"HP": "\\ud800"}]}', '["\\udfff"]'])
MANY = st.tuples(
    st.sampled_from(["[", '{"a":', ",", "1", '"', "[[],", "a,", "\n", "\r", ";"]),
    st.integers(1, 100_000),
    st.sampled_from(["", '{"dataframe_records": ', '{"dataframe_split": ', ",".join(TITLES)]),
).map(lambda told: told[2] + told[0] * told[1])
TABLES = st.lists(
    st.lists(st.text(string.printable), min_size=len(TITLES), max_size=len(TITLES)).map(",".join)
).map(lambda lines: "\n".join([",".join(TITLES), *lines]))
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
TEXTS = DOCUMENTS.map(json.dumps) | HALVES | MANY | TABLES | st.text()
BODIES = st.binary() | st.builds(
    lambda text, encoding: text.encode(encoding, "replace"), TEXTS, ENCODINGS
)
KINDS = st.sampled_from([JSON, CSV, f"{JSON}; charset=utf-8", f"{CSV}; charset=latin-1", ""])
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126)).map(str.strip)


def fuzz(server: Client, examples: int) -> None:
    """Make so many requests; each gets predictions or a short reason."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    @given(BODIES, KINDS | WORDS)
    def one(body: bytes, kind: str) -> None:
        answer = server.ask(body, kind)
        assert answer.status_code in (200, 400, 413, 415), answer.text
        assert "Traceback" not in answer.text
        assert "can't score" not in answer.text
        if answer.status_code != 200:
            assert set(answer.json()) - {"example"} == {"error_code", "message"}
            assert len(answer.json()["message"]) <= 1003

    one()
