"""Serves Trackio's and MLflow's dashboards side by side until Ctrl-C."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from urllib.parse import quote

from pipeline.core import settings
from pipeline.core.errors import PipelineError

TRACKIO_PORT, MLFLOW_PORT = 7860, 5000


def free_port(host: str, first: int) -> int:
    """The first free port, from ``first`` on.

    Raises:
        PipelineError: 100 ports in a row are in use.
    """
    for port in range(first, first + 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return port
    raise PipelineError(
        f"no free port from {first} to {first + 99}", "stop a server on these ports"
    )


def commands(host: str) -> dict[str, tuple[str, Sequence[str]]]:
    """Each dashboard's address and the command that serves it; an empty command for a server."""
    trackio_port, mlflow_port = free_port(host, TRACKIO_PORT), free_port(host, MLFLOW_PORT)
    trackio_code = (
        f"import trackio; trackio.show(host={host!r}, server_port={trackio_port}, "
        "open_browser=False, block_thread=True)"
    )
    dashboards: dict[str, tuple[str, Sequence[str]]] = {}
    address = f"http://{host}:{trackio_port}/?project={quote(project(), safe='')}"
    dashboards["Trackio"] = (address, [sys.executable, "-c", trackio_code])
    uri = settings.tracking_uri()
    if uri.startswith("http"):
        dashboards["MLflow"] = (uri, [])  # the server has its own pages
    else:
        if (file := settings.sqlite_path(uri)) and not file.exists():
            from pipeline.tracking.mlflow import store as mlflow_store

            mlflow_store.make_store(file)
        server = ["mlflow", "server", "--backend-store-uri", uri, "--host", host]
        dashboards["MLflow"] = (
            f"http://{host}:{mlflow_port}",
            [sys.executable, "-m", *server, "--port", str(mlflow_port), "--workers", "1"],
        )
    return dashboards


def project() -> str:
    """The Trackio project to open: ``WANDB_PROJECT``, else the project written to last."""
    databases = settings.trackio_dir().glob("*.db")
    latest = max(databases, key=lambda file: file.stat().st_mtime, default=None)
    return settings.project() if latest is None or settings.PROJECT in os.environ else latest.stem


def serve(host: str, open_browser: bool) -> None:
    """Start both dashboards, print their addresses, and wait until Ctrl-C ends both.

    Raises:
        PipelineError: nothing has been recorded yet, or a dashboard failed.
    """
    state = settings.state_dir()
    if not state.is_dir():
        raise PipelineError(f"there is nothing to show: no {state}", "make run comes first")
    environment = {**os.environ, "TRACKIO_DIR": str(settings.trackio_dir())}
    servers: dict[str, subprocess.Popen[bytes]] = {}
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        for name, (address, command) in commands(host).items():
            if command:
                log = state / f"{name.lower()}-dashboard.log"
                with log.open("wb") as file:
                    servers[name] = subprocess.Popen(
                        command,
                        env=environment,
                        stdout=subprocess.DEVNULL,  # Trackio prints its write token
                        stderr=file,
                        cwd=state,
                        start_new_session=True,
                    )
            print(f"{name:8} {address}", flush=True)
            if open_browser:
                webbrowser.open(address)
        print("Ctrl-C ends both", flush=True)
        for name, server in servers.items():
            if server.wait():
                log = state / f"{name.lower()}-dashboard.log"
                raise PipelineError(f"{name}'s dashboard ended", f"its log: {log}")
    except KeyboardInterrupt:
        print()
    finally:
        for server in servers.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
        for server in servers.values():
            server.wait()
