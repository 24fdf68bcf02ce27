"""Real servers on loopback for the tests, started with a wait and ended without a trace."""

import base64
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.core import settings
from pipeline.tracking.mlflow import store as mlflow_store
from tests.support.runs import environment

TOKEN = "token-of-the-tests"
AZURE_ACCOUNT = "testaccount"
# Linux gives clients ports from 32768 on; Ray's workers have those up to 19999
FOR_SERVERS = range(20_000, 32_768)


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to no client.

    Whoever tries to connect to a port of a client's might connect to itself, and then the server
    can't have it.
    """
    while True:
        port = secrets.choice(FOR_SERVERS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def process(
    command: list[str], port: int, log: Path, **options: object
) -> Iterator[subprocess.Popen]:
    """A server process, from when it accepts connections on a port until the end of the block."""
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, stdout=file, stderr=file, start_new_session=True, **options
        )
    try:
        limit = time.monotonic() + 180
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if server.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()}")
            time.sleep(0.05)  # a listening socket has no event to wait for from outside
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, 9)
            server.wait()


@contextlib.contextmanager
def mlflow_server(home: Path, store: str) -> Iterator[str]:
    """An MLflow server that also serves artifacts; its address.

    Without the ten processes of its job execution, which nothing here needs, and on a database of
    SQLite that is a copy of the template.
    """
    port = free_port()
    if file := settings.sqlite_path(store):
        mlflow_store.make_store(file)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", store]
    command += ["--artifacts-destination", str(home / "artifacts")]
    env = environment(home, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    with process(command, port, home / "mlflow.log", env=env, cwd=home):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def trackio_server(home: Path) -> Iterator[str]:
    """A Trackio server; its address with the token to write.

    It keeps what was uploaded among its temporary files, so those are in its home.
    """
    port = free_port()
    show = (
        f"import trackio; trackio.show(server_port={port}, open_browser=False, block_thread=True)"
    )
    env = environment(home, TRACKIO_DIR=str(home / "trackio"), TRACKIO_WRITE_TOKEN=TOKEN)
    env["TMPDIR"] = str(home)
    with process([sys.executable, "-c", show], port, home / "trackio.log", env=env, cwd=home):
        yield f"http://127.0.0.1:{port}/?write_token={TOKEN}"


@contextlib.contextmanager
def azurite(home: Path) -> Iterator[str]:
    """Azure Blob Storage's emulator, with an account of its own; its connection string."""
    port, key = free_port(), base64.b64encode(secrets.token_bytes(64)).decode()
    command = ["azurite-blob", "--blobPort", str(port), "--location", str(home / "azurite")]
    command += ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    env = environment(home, AZURITE_ACCOUNTS=f"{AZURE_ACCOUNT}:{key}")
    with process(command, port, home / "azurite.log", env=env, cwd=home):
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_ACCOUNT};"
        )


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's server programs, as Debian lays them out."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server with an empty database; its address for SQLAlchemy."""
    programs, port = postgres_programs(), free_port()
    user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        if user:
            shutil.chown(home, user)
        data = str(home / "data")
        initdb = [str(programs / "initdb"), "-D", data, "-U", "tester", "-A", "trust", "-N"]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=home)
        command = [str(programs / "postgres"), "-D", data, "-p", str(port), "-k", str(home)]
        command += ["-h", "127.0.0.1", "-c", "fsync=off"]
        with process(command, port, home.with_suffix(".log"), user=user, cwd=home):
            yield f"postgresql+psycopg2://tester@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(home)
        home.with_suffix(".log").unlink(missing_ok=True)
