"""Serves a model over HTTP for raw rows, in the model's own environment.

``/invocations`` and ``/ping`` follow the protocol of MLflow's model server. Rows are cleaned as in
2-ETL. Waiting requests are scored together (``batching``), and each has limits (``bodies``). ``/``
is a web page to try the model (``page``). ``/version``, ``/health`` and a header of each response
report the version. ``/metrics`` is for Prometheus (``counts``). ``/reload`` loads a newly promoted
version without downtime.

``python -m pipeline serve`` finds the model and starts this module.
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
from pipeline.models.scoring import Cells, LoadedModel
from pipeline.models.serving import page
from pipeline.models.serving.batching import Batcher
from pipeline.models.serving.bodies import CSV, JSON, Limits, Reader
from pipeline.models.serving.connections import limited
from pipeline.models.serving.counts import KIND as COUNTS
from pipeline.models.serving.counts import Counts
from pipeline.models.serving.scorers import Answer, Scorers

LONGEST_MESSAGE = 1000  # characters
LONGEST_EXAMPLE = 2000  # characters of the example in an error response
HOST = re.compile(r"[\w.:\[\]-]{1,255}", re.ASCII)  # a Host header that is safe in a command
SMALL_BODY = 8_000  # bytes; parsing a smaller body is faster than handing it to a thread
BATCH_ROWS = 1000
FEW_ROWS = 100  # requests of up to this many rows take the fast path
GRACE = 30  # seconds to finish open requests after SIGTERM
CODES = {503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


@dataclasses.dataclass(frozen=True)
class Label:
    """The version in use, and its metrics from training."""

    name: str
    version: int
    run: str
    commit: str
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)


class RequestError(Exception):
    """A request without predictions: the HTTP status and a message."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status

    def response(self, example: dict[str, Any] | None = None) -> Response:
        """The response in the format of MLflow's server, with an example request if given."""
        message = str(self)
        if len(message) > LONGEST_MESSAGE:
            message = f"{message[:LONGEST_MESSAGE]}..."
        code = CODES.get(self.status, "BAD_REQUEST")
        extra = {"example": example} if example else {}
        return JSONResponse({"error_code": code, "message": message, **extra}, self.status)


class ServedModel:
    """A model in use: its reader, its batchers and its workers."""

    def __init__(self, label: Label, folder: Path, limits: Limits, workers: int):
        self.label, self.limits, self.workers = label, limits, workers
        self.loaded = LoadedModel.from_folder(folder)
        self.reader = Reader(self.loaded, limits)
        self.row = page.example(self.loaded)
        body = {"dataframe_records": [self.row]}
        self.example = body if len(json.dumps(body)) <= LONGEST_EXAMPLE else None
        self.scorers = Scorers(self.loaded, workers, limits.timeout)
        self._valid: Batcher[Cells, Answer | None]
        self._valid = Batcher(self.scorers.score_valid, _rows, BATCH_ROWS, workers)
        lanes = max(1, workers - 1)  # leaves a worker for the fast path
        self._any: Batcher[Cells, Answer]
        self._any = Batcher(self.scorers.score_any, _rows, BATCH_ROWS, lanes)
        self.users = 0  # open requests

    async def score(self, cells: Cells) -> Answer:
        """Score a request; large requests and invalid cells take the slow path."""
        answer = await self._valid(cells) if _rows(cells) <= FEW_ROWS else None
        return await self._any(cells) if answer is None else answer


def _rows(cells: Cells) -> int:
    return len(next(iter(cells.values())))


class Server:
    """The HTTP routes of the model in use."""

    def __init__(self, served: ServedModel, alias: str, host: str):
        self.served, self.alias, self.host = served, alias, host
        self._loading = asyncio.Lock()
        self._large = ThreadPoolExecutor(1)  # parses one large body at a time, to save memory
        self._counts = Counts()
        # FastAPI's documentation page would load scripts from another host
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
        """The version in use."""
        label = dataclasses.asdict(self.served.label)
        del label["metrics"]
        return {**label, "alias": self.alias, "mlflow": VERSION}

    async def page(self, request: Request) -> Response:
        """The web page of the version in use, with a form."""
        served, host = self.served, request.headers.get("host", "")
        about = {**dataclasses.asdict(served.label), "alias": self.alias}
        address = f"{request.url.scheme}://{host if HOST.fullmatch(host) else self.host}"
        html = page.render(about, served.loaded, served.row, address)
        return HTMLResponse(html, headers={"Content-Security-Policy": page.policy()})

    async def metrics(self) -> Response:
        """Counts and times of requests, for Prometheus."""
        label = self.served.label
        return Response(self._counts.text(label.name, label.version), media_type=COUNTS)

    def _openapi(self) -> dict[str, Any]:
        """The OpenAPI schema, with the columns of the model in use."""
        served = self.served
        schema = get_openapi(
            title=served.label.name, version=str(served.label.version), routes=self.app.routes
        )
        body = page.body_schema(served.loaded, served.row)
        schema["paths"]["/invocations"]["post"]["requestBody"] = body
        return schema

    async def health(self) -> dict[str, Any]:
        """Report that a model is loaded, and its version."""
        return {"status": "ok", "version": self.served.label.version}

    async def ping(self) -> Response:
        """Report that a model is loaded, in the format of MLflow's server."""
        return Response("\n", media_type=JSON)

    async def reload(self, request: Request) -> Response:
        """Load the version that the alias points to now; the old version answers until then.

        A web page could send this POST to the address of this machine, or to a host name of its own
        that resolves to it (DNS rebinding). So a request with an ``Origin`` or an unknown ``Host``
        is refused.
        """
        if "origin" in request.headers or not self._own(request.headers.get("host", "")):
            reason = "/reload is not for web pages: use this server's own address"
            return RequestError(403, reason).response()
        async with self._loading:
            old = self.served
            version = old.label.version
            try:
                self.served = await asyncio.to_thread(load_newest, old, self.alias)
            except (PipelineError, MlflowException) as error:
                content = {"message": str(error), "version": version}
                return JSONResponse(content, status_code=409)
            if old is not self.served and not old.users:
                old.scorers.close()
        return JSONResponse({"version": self.served.label.version, "was": version})

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
        """Predictions for the rows of a request, or a short error message."""
        served = self.served  # a reload in the meantime applies to later requests
        served.users += 1
        start, rows = time.monotonic(), 0
        try:
            answer, rows = await self._answer(served, request)
        except RequestError as error:
            answer = error.response(served.example if error.status in (400, 415) else None)
        finally:
            served.users -= 1
            if served is not self.served and not served.users:
                served.scorers.close()
        self._counts.add(answer.status_code, time.monotonic() - start, rows)
        answer.headers["x-model-version"] = str(served.label.version)
        return answer

    async def _answer(self, served: ServedModel, request: Request) -> tuple[Response, int]:
        """The response to a request, and its number of rows.

        Raises:
            RequestError: the request can't be answered.
        """
        kind = _kind(request.headers.get("content-type", ""))
        limits = served.limits
        try:
            async with asyncio.timeout(limits.timeout):
                body = await _body(request, limits.max_bytes)
        except ClientDisconnect as error:
            raise RequestError(400, "the body is cut off") from error  # for the counts only
        except TimeoutError as error:
            raise RequestError(408, f"the body took longer than {limits.timeout:g} s") from error
        try:
            async with asyncio.timeout(limits.timeout):
                if len(body) <= SMALL_BODY:
                    cells = served.reader.read(body, kind)
                else:
                    loop = asyncio.get_running_loop()
                    cells = await loop.run_in_executor(self._large, served.reader.read, body, kind)
                answer = await served.score(cells)
        except PipelineError as error:
            raise RequestError(400, str(error)) from error
        except TimeoutError as error:
            reason = f"scoring took longer than {limits.timeout:g} s: send fewer rows at once"
            raise RequestError(504, reason) from error
        except BrokenExecutor as error:
            raise RequestError(
                503, "a worker was killed (out of memory?): send the request again"
            ) from error
        if isinstance(answer, str):
            raise RequestError(400, answer)
        text = json.dumps({"predictions": answer}, default=_plain)
        return Response(text, media_type=JSON), len(answer)


def _kind(header: str) -> str:
    """A request's content type, :data:`JSON` or :data:`CSV`.

    Raises:
        RequestError: the type is another, or the encoding is not UTF-8.
    """
    kind, _, parameters = header.partition(";")
    kind, (name, _, value) = kind.strip().lower(), parameters.strip().partition("=")
    if kind not in (JSON, CSV):
        raise RequestError(415, f"the content type is {kind[:80]!r}: send {JSON} or {CSV}")
    parameter = name.strip().lower(), value.strip('" ').lower()
    if parameters.strip() and parameter != ("charset", "utf-8"):
        raise RequestError(415, f"the content type has {parameters.strip()[:80]!r}: send UTF-8")
    return kind


async def _body(request: Request, max_bytes: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise RequestError(
                413,
                f"the body is larger than {max_bytes:,} bytes: send fewer rows at once; "
                "python -m pipeline predict scores files of any size",
            )
    return b"".join(parts)


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python value."""
    return value.item()


def load_newest(served: ServedModel, alias: str) -> ServedModel:
    """Load the version that an alias points to; return ``served`` if it is that version already.

    Raises:
        PipelineError: there is no such version, or it needs other packages than this process has.
    """
    from pipeline.models import registry

    version = registry.find(served.label.name, alias)
    if version.number == served.label.version:
        return served
    label = Label(version.name, version.number, version.run, version.commit, version.metrics)
    folder = registry.fetch(version)
    reloaded = ServedModel(label, folder, served.limits, served.workers)
    if reloaded.loaded.requirements != served.loaded.requirements:
        reloaded.scorers.close()
        raise PipelineError(
            f"version {version.number} needs other packages than version {served.label.version}: "
            f"{', '.join(reloaded.loaded.requirements)}",
            "restart the server: it then runs in that version's environment",
        )
    return reloaded


def _listening(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        SystemExit: the port is in use, or the host is not an address of this machine.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SystemExit(
            f"error: {host} port {port}: {error.strerror}\n"
            "  give --port or --host, or stop the program that listens there"
        ) from error
    listener.listen(1024)
    return listener


def main(folder: str, options: str) -> int:
    """Serve the model in a folder until SIGTERM or Ctrl-C; then finish open requests.

    Args:
        folder: the model's files.
        options: as JSON, the fields of ``Serving``, ``label`` and ``wanted``, the alias or number.

    Returns:
        The exit status.

    Raises:
        SystemExit: as :func:`_listening`.
    """
    settings = json.loads(options)
    limits = Limits(**{field.name: settings[field.name] for field in dataclasses.fields(Limits)})
    served = ServedModel(Label(**settings["label"]), Path(folder), limits, settings["workers"])
    server = Server(served, settings["wanted"], settings["host"])
    config = uvicorn.Config(
        server.app,
        log_level="warning",
        http=limited(limits.timeout, limits.max_bytes),
        access_log=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=max(1, round(limits.timeout)),
        limit_concurrency=settings["max_connections"],
    )
    http = uvicorn.Server(config)
    received: list[int] = []

    def end(number: int, _: object) -> None:
        received.append(number)  # uvicorn raises its captured signals again at its end
        http.should_exit = True

    try:
        with _listening(settings["host"], settings["port"]) as listener:
            # Python may ignore an exception from a handler, for example in an import: use a flag
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, end)
            host, port = listener.getsockname()[:2]
            model = f"{served.label.name} version {served.label.version}"
            print(f"{model}  http://{host}:{port}/invocations", flush=True)
            http.run(sockets=[listener])
    finally:
        server.served.scorers.close()
    return INTERRUPTED if signal.SIGINT in received else 0


def run(words: Sequence[str]) -> int:
    """Run :func:`main`; return the exit status."""
    try:
        return main(*words)
    except KeyboardInterrupt:  # while the model is loading
        return INTERRUPTED


if __name__ == "__main__":
    status = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a normal exit would wait for threads, and one may hang
