"""A model server in a process of its own, and rows to ask it about."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.models.scoring import LoadedModel
from pipeline.models.serving.settings import read
from pipeline.science.data import tables
from tests.support.fitted import fitted
from tests.support.paths import POKEMON, ROOT
from tests.support.registered import CLEANING
from tests.support.servers import free_port, process

SERVER = "pipeline.models.serving.server"
LABEL = {"name": "pokemon", "version": 1, "run": "", "commit": ""}
TITLES, *LINES = POKEMON.read_text(encoding="utf-8").splitlines()
ROWS = [dict(zip(TITLES.split(","), line.split(","), strict=True)) for line in LINES[:200]]
BODIES = [json.dumps({"dataframe_records": [row]}) for row in ROWS]


@dataclass
class Running:
    """A server: where it listens, and its process."""

    port: int
    process: subprocess.Popen
    log: Path

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), 120)

    def workers(self) -> list[int]:
        """The processes that it has started."""
        place = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [*map(int, place.read_text().split())]

    def resident(self) -> int:
        """Its memory in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def of_pokemon(folder: Path) -> LoadedModel:
    """A model of the Pokémon."""
    return fitted(folder, tables.read_raw(POKEMON), "legendary", ["number", "name"], CLEANING)


@contextmanager
def serving(model: LoadedModel, program: str = SERVER, **options: float) -> Iterator[Running]:
    """A server of the model."""
    port, log = free_port(), model.folder / "server.log"
    told = {"label": LABEL, "wanted": "1", **vars(read([], {"port": port, **options}))}
    words = ["-m", program, str(model.folder), json.dumps(told)]
    with process([sys.executable, *words], port, log, cwd=ROOT) as server:
        yield Running(port, server, log)
    assert "Traceback" not in log.read_text()
