"""Serves a model over HTTP for raw rows, in the model's own environment.

``/invocations`` and ``/ping`` speak the protocol of MLflow's model server. Rows are cleaned as
2-ETL does; requests that wait together are scored together (``batching``); each has limits
(``bodies``). ``/`` is a page to try it (``page``). ``/version`` and ``/health`` say which version
answers, as does a header of each answer; ``/metrics`` is for Prometheus (``counts``); ``/reload``
takes up what has been promoted without a pause.

``python -m pipeline serve`` looks the model up and starts this.
"""

import asyncio
import dataclasses
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from mlflow.exceptions import MlflowException
from mlflow.version import VERSION
from starlette.requests import ClientDisconnect

from pipeline.core.errors import INTERRUPTED, PipelineError
from pipeline.models.scoring import Cells, Loaded
from pipeline.models.serving import page
from pipeline.models.serving.batching import Batcher
from pipeline.models.serving.bodies import CSV, JSON, Limits, Reader
from pipeline.models.serving.connections import limited
from pipeline.models.serving.counts import KIND as COUNTS
from pipeline.models.serving.counts import Counts
from pipeline.models.serving.scorers import Answer, Scorers

LONGEST_MESSAGE = 1000  # characters
LONGEST_EXAMPLE = 2000  # characters that go with a refusal
HOST = re.compile(r"[\w.:\[\]-]{1,255}", re.ASCII)  # a header that may stand in a command
SMALL_BODY = 8_000  # bytes that are read faster than handed to a thread
BATCH_ROWS = 1000
FEW_ROWS = 100  # of a request that is scored before larger ones
GRACE = 30  # seconds in which requests under way are answered after SIGTERM
CODES = {503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


@dataclasses.dataclass(frozen=True)
class Label:
    """Which version answers, and what it scored when it was trained."""

    name: str
    version: int
    run: str
    commit: str
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)


class Refused(Exception):
    """A request that gets no prediction: its status, and a message."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status

    def response(self, example: dict[str, Any] | None = None) -> Response:
        """The answer, in the form of MLflow's; with an example, if there is one."""
        message = str(self)
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]}..."
        code = CODES.get(self.status, "BAD_REQUEST")
        more = {"example": example} if example else {}
        return JSONResponse({"error_code": code, "message": message, **more}, self.status)


class Served:
    """A model that answers: its reader, its batches and its workers."""

    def __init__(self, label: Label, folder: Path, limits: Limits, workers: int):
        self.label, self.limits, self.workers = label, limits, workers
        self.loaded = Loaded.from_folder(folder)
        self.reader = Reader(self.loaded, limits)
        self.row = page.example(self.loaded)
        body = {"dataframe_records": [self.row]}
        self.example = body if len(json.dumps(body)) <= LONGEST_EXAMPLE else None
        self.scorers = Scorers(self.loaded, workers, limits.timeout)
        self._valid: Batcher[Cells, Answer | None]
        self._valid = Batcher(self.scorers.score_valid, _rows, BATCH_ROWS, workers)
        lanes = max(1, workers - 1)  # one worker is left for the others
        self._any: Batcher[Cells, Answer]
        self._any = Batcher(self.scorers.score_any, _rows, BATCH_ROWS, lanes)
        self.users = 0  # requests under way

    async def score(self, cells: Cells) -> Answer:
        """The answer to a request; one that is large or in question keeps no other waiting."""
        answer = await self._valid(cells) if _rows(cells) <= FEW_ROWS else None
        return await self._any(cells) if answer is None else answer


def _rows(cells: Cells) -> int:
    return len(next(iter(cells.values())))


class Server:
    """The HTTP side: the model being served, and what is asked of it."""

    def __init__(self, served: Served, wanted: str, host: str):
        self.served, self.wanted, self.host = served, wanted, host
        self._loading = asyncio.Lock()
        self._large = ThreadPoolExecutor(1)  # one large body in memory as JSON at a time
        self._counts = Counts()
        # FastAPI's own page of the API loads scripts from another host
        self.app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False)
        self.app.openapi = self._openapi
        for path in ("/", "/docs"):
            self.app.get(path, include_in_schema=False)(self.page)
        self.app.get("/metrics")(self.metrics)
        self.app.get("/version")(self.version)
        self.app.get("/health")(self.health)
        self.app.get("/ping")(self.ping)
        self.app.post("/reload")(self.reload)
        self.app.post("/invocations")(self.invocations)

    async def version(self) -> dict[str, Any]:
        """Which version answers."""
        told = dataclasses.asdict(self.served.label)
        del told["metrics"]
        return {**told, "alias": self.wanted, "mlflow": VERSION}

    async def page(self, request: Request) -> Response:
        """A page about the version that answers, with a form."""
        served, host = self.served, request.headers.get("host", "")
        about = {**dataclasses.asdict(served.label), "alias": self.wanted}
        address = f"{request.url.scheme}://{host if HOST.fullmatch(host) else self.host}"
        html = page.render(about, served.loaded, served.row, address)
        return HTMLResponse(html, headers={"Content-Security-Policy": page.policy()})

    async def metrics(self) -> Response:
        """How many requests were answered, and how long that took, for Prometheus."""
        label = self.served.label
        return Response(self._counts.text(label.name, label.version), media_type=COUNTS)

    def _openapi(self) -> dict[str, Any]:
        """The API's description, with the columns of the model that answers."""
        served = self.served
        told = get_openapi(
            title=served.label.name, version=str(served.label.version), routes=self.app.routes
        )
        body = page.body_schema(served.loaded, served.row)
        told["paths"]["/invocations"]["post"]["requestBody"] = body
        return told

    async def health(self) -> dict[str, Any]:
        """That a model is loaded, and which."""
        return {"status": "ok", "version": self.served.label.version}

    async def ping(self) -> Response:
        """That a model is loaded, as MLflow's server says it."""
        return Response("\n", media_type=JSON)

    async def reload(self, request: Request) -> Response:
        """Take up the version that the alias means now; the old one answers until it is loaded.

        A web page can send a POST to this machine, by its address or by a name that it has made
        this machine's; so a request with an ``Origin`` or a strange ``Host`` is refused.
        """
        if "origin" in request.headers or not self._own(request.headers.get("host", "")):
            said = "/reload is not for web pages: ask by this server's own address"
            return Refused(403, said).response()
        async with self._loading:
            old = self.served
            before = old.label.version
            try:
                self.served = await asyncio.to_thread(newest, old, self.wanted)
            except (PipelineError, MlflowException) as error:
                told = {"message": str(error), "version": before}
                return JSONResponse(told, status_code=409)
            if old is not self.served and not old.users:
                old.scorers.close()
        return JSONResponse({"version": self.served.label.version, "was": before})

    def _own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in {"localhost", self.host.lower()}:
                return True
            ip_address(name)
        except ValueError:
            return False
        return True

    async def invocations(self, request: Request) -> Response:
        """Predictions for the rows of a request, or a short message why there are none."""
        served = self.served  # a reload meanwhile is for those who come later
        served.users += 1
        begun, rows = time.monotonic(), 0
        try:
            answer, rows = await self._answer(served, request)
        except Refused as refused:
            answer = refused.response(served.example if refused.status in (400, 415) else None)
        finally:
            served.users -= 1
            if served is not self.served and not served.users:
                served.scorers.close()
        self._counts.add(answer.status_code, time.monotonic() - begun, rows)
        answer.headers["x-model-version"] = str(served.label.version)
        return answer

    async def _answer(self, served: Served, request: Request) -> tuple[Response, int]:
        """The answer to a request, and how many rows it has."""
        kind = _kind(request.headers.get("content-type", ""))
        limits = served.limits
        try:
            async with asyncio.timeout(limits.timeout):
                body = await _body(request, limits.max_bytes)
        except ClientDisconnect as error:
            raise Refused(400, "the body is cut off") from error  # nobody reads it
        except TimeoutError as error:
            raise Refused(408, f"the body took longer than {limits.timeout:g} s") from error
        try:
            async with asyncio.timeout(limits.timeout):
                if len(body) <= SMALL_BODY:
                    cells = served.reader.read(body, kind)
                else:
                    loop = asyncio.get_running_loop()
                    cells = await loop.run_in_executor(self._large, served.reader.read, body, kind)
                answer = await served.score(cells)
        except PipelineError as error:
            raise Refused(400, str(error)) from error
        except TimeoutError as error:
            said = f"scoring took longer than {limits.timeout:g} s: send fewer rows at once"
            raise Refused(504, said) from error
        except BrokenExecutor as error:
            raise Refused(503, "a worker was killed (out of memory?): ask again") from error
        if isinstance(answer, str):
            raise Refused(400, answer)
        text = json.dumps({"predictions": answer}, default=_plain)
        return Response(text, media_type=JSON), len(answer)


def _kind(header: str) -> str:
    """A request's content type, :data:`JSON` or :data:`CSV`.

    Raises:
        Refused: it is another, or in another encoding than UTF-8.
    """
    kind, _, rest = header.partition(";")
    kind, (name, _, value) = kind.strip().lower(), rest.strip().partition("=")
    if kind not in (JSON, CSV):
        raise Refused(415, f"the content type is {kind[:80]!r}: send {JSON} or {CSV}")
    if rest.strip() and (name.strip().lower(), value.strip('" ').lower()) != ("charset", "utf-8"):
        raise Refused(415, f"the content type has {rest.strip()[:80]!r}: send UTF-8")
    return kind


async def _body(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > most:
            raise Refused(
                413,
                f"the body is larger than {most:,} bytes: send fewer rows at once; "
                "python -m pipeline predict scores files of any size",
            )
    return b"".join(parts)


def _plain(value: Any) -> Any:
    """A number or a class of NumPy's as Python has it."""
    return value.item()


def newest(served: Served, wanted: str) -> Served:
    """The version that an alias means now, loaded; the one that is served, if that is it.

    Raises:
        PipelineError: it is not there, or needs other packages than this process has.
    """
    from pipeline.models import registry

    version = registry.find(served.label.name, wanted)
    if version.number == served.label.version:
        return served
    label = Label(version.name, version.number, version.run, version.commit, version.metrics)
    folder = registry.fetch(version)
    found = Served(label, folder, served.limits, served.workers)
    if found.loaded.requirements != served.loaded.requirements:
        found.scorers.close()
        raise PipelineError(
            f"version {version.number} needs other packages than version {served.label.version}: "
            f"{', '.join(found.loaded.requirements)}",
            "start the server again: it then runs in that version's environment",
        )
    return found


def _listening(host: str, port: int) -> socket.socket:
    """A socket that connections come to.

    Raises:
        SystemExit: the port is taken, or the host is not this machine.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SystemExit(
            f"error: {host} port {port}: {error.strerror}\n"
            "  give --port or --host, or end what listens there"
        ) from error
    listener.listen(1024)
    return listener


def main(folder: str, options: str) -> int:
    """Serve the model in a folder until SIGTERM or Ctrl-C; requests under way are answered.

    Returns:
        The exit status.

    Raises:
        SystemExit: the port is taken, or the host is not this machine.
    """
    told = json.loads(options)
    limits = Limits(**{field.name: told[field.name] for field in dataclasses.fields(Limits)})
    served = Served(Label(**told["label"]), Path(folder), limits, told["workers"])
    server = Server(served, told["wanted"], told["host"])
    config = uvicorn.Config(
        server.app,
        log_level="warning",
        http=limited(limits.timeout, limits.max_bytes),
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=max(1, round(limits.timeout)),
        limit_concurrency=told["max_connections"],
    )
    http = uvicorn.Server(config)
    received: list[int] = []

    def end(number: int, _: object) -> None:
        received.append(number)  # uvicorn sends again what it has received
        http.should_exit = True

    try:
        with _listening(told["host"], told["port"]) as listener:
            # an exception is lost where Python ignores it, as within an import: a note is not
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, end)
            host, port = listener.getsockname()[:2]
            named = f"{served.label.name} version {served.label.version}"
            print(f"{named}  http://{host}:{port}/invocations", flush=True)
            http.run(sockets=[listener])
    finally:
        server.served.scorers.close()
    return INTERRUPTED if signal.SIGINT in received else 0


def run(words: Sequence[str]) -> int:
    """Serve until the end; the exit status."""
    try:
        return main(*words)
    except KeyboardInterrupt:  # while the model was loaded
        return INTERRUPTED


if __name__ == "__main__":
    status = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Python would wait for a thread whose batch hangs
