"""MLflow's model server, for raw rows: it runs in the model's own environment.

``/invocations`` and ``/ping`` are MLflow's: its formats, its threads, its answers. Around it is
what it does not do: rows are cleaned as 2-ETL does, which reads CSV as text; ``/version`` and
``/health`` say which version answers, as does a header of each answer; ``/reload`` takes up what
has been promoted without a pause; a body has a limit.

``python -m pipeline serve`` looks the model up and starts this.
"""

import asyncio
import csv
import dataclasses
import io
import json
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import pandas as pd
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PyFuncModel, scoring_server

from pipeline.core.errors import PipelineError
from pipeline.models.scoring import REASON, Loaded
from pipeline.science.tables import dialect

ROWS_NAMED = 10
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class Label:
    """Which version answers."""

    name: str
    version: int
    run: str
    commit: str


class BadRows(MlflowException):
    """Rows that can't be scored: MLflow's own words would repeat all of them."""

    def __init__(self, told: str):
        super().__init__(told, error_code=BAD_REQUEST)
        self.told = told

    def serialize_as_json(self) -> str:
        """The answer's body."""
        return json.dumps({"error_code": self.error_code, "message": self.told})


class RawRows:
    """A model as MLflow's server calls it."""

    def __init__(self, loaded: Loaded):
        self.loaded = loaded

    def predict(self, data: Any, params: dict | None = None) -> pd.DataFrame:
        """Predictions and probabilities of raw rows; all of them, or an error that names columns.

        Raises:
            BadRows: a column is not there, or a row can't be scored.
        """
        if not isinstance(data, pd.DataFrame):
            raise BadRows("send rows with named columns: dataframe_records or dataframe_split")
        if not all(isinstance(title, str) for title in data.columns):
            raise BadRows(f"the rows' columns have no names: {list(data.columns)[:5]}")
        try:
            scored = self.loaded.score(data.reset_index(drop=True))
        except PipelineError as error:
            raise BadRows(str(error)) from error
        bad = scored[scored[REASON] != ""]
        if len(bad):
            shown = bad[REASON].head(ROWS_NAMED)
            lines = [f"row {place + 1}: {reason}" for place, reason in shown.items()]
            more = [f"and {len(bad) - ROWS_NAMED} more rows"] if len(bad) > ROWS_NAMED else []
            raise BadRows("\n".join([*lines, *more]))
        return scored.drop(columns=REASON)


@dataclasses.dataclass(frozen=True)
class Served:
    """A model and the server of MLflow's that answers with it."""

    label: Label
    loaded: Loaded
    app: FastAPI

    @classmethod
    def of(cls, label: Label, folder: Path) -> "Served":
        """Load a model, and try it, before anybody asks."""
        loaded = Loaded.from_folder(folder)
        model = PyFuncModel(model_meta=Model(), model_impl=RawRows(loaded))
        return cls(label, loaded, scoring_server.init(model))


class Server:
    """What answers: the model being served, and around it what MLflow's server does not do."""

    def __init__(self, served: Served, wanted: str, max_bytes: int):
        self.served, self.wanted, self.max_bytes = served, wanted, max_bytes
        self._loading = asyncio.Lock()
        self.app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        self.app.get("/version")(self.version)
        self.app.get("/health")(self.health)
        self.app.post("/reload")(self.reload)
        self.app.mount("/", self.score)

    async def version(self) -> dict[str, Any]:
        """Which version answers."""
        mlflow = {"mlflow": scoring_server.VERSION}
        return {**dataclasses.asdict(self.served.label), "alias": self.wanted, **mlflow}

    async def health(self) -> dict[str, Any]:
        """That a model is loaded, and which."""
        return {"status": "ok", "version": self.served.label.version}

    async def reload(self) -> JSONResponse:
        """Take up the version that the alias means now; the old one answers until it is loaded."""
        async with self._loading:
            before = self.served.label.version
            try:
                self.served = await asyncio.to_thread(newest, self.served, self.wanted)
            except (PipelineError, MlflowException) as error:
                told = {"message": str(error), "version": before}
                return JSONResponse(told, status_code=409)
        return JSONResponse({"version": self.served.label.version, "was": before})

    async def score(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand a request to MLflow's server: its body within the limit, and CSV as text."""
        served = self.served  # a reload meanwhile is for those who come later
        try:
            body = await self._body(receive)
            kind = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
            if kind.partition(";")[0].strip() == "text/csv":
                body, kind = csv_as_json(body, served.loaded), "application/json"
        except PipelineError as error:
            status = 413 if error.what.startswith("the body") else 400
            told = {"error_code": "BAD_REQUEST", "message": str(error)}
            return await JSONResponse(told, status_code=status)(scope, receive, send)
        kept = (b"content-type", b"content-length")
        headers = [pair for pair in scope["headers"] if pair[0] not in kept]
        headers += [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def given() -> Message:
            return next(messages, None) or await receive()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                number = str(served.label.version).encode()
                message["headers"] = [*message["headers"], (b"x-model-version", number)]
            await send(message)

        # MLflow's own server stands at the root
        scope = {**scope, "headers": headers, "app_root_path": "", "root_path": ""}
        return await served.app(scope, given, answer)

    async def _body(self, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.max_bytes:
                raise PipelineError(
                    f"the body is larger than {self.max_bytes:,} bytes",
                    "send fewer rows at once; python -m pipeline predict scores files of any size",
                )
            if not message.get("more_body"):
                return b"".join(parts)


def csv_as_json(body: bytes, loaded: Loaded) -> bytes:
    """A CSV body as MLflow's dataframe_split, each cell as the text that is there.

    MLflow would read it with pandas' own idea of what is missing and what is a number.

    Raises:
        PipelineError: it is no table in UTF-8 with a header and a row.
    """
    sep, encoding = dialect(loaded.cleaning.get("sep"), None)
    try:
        text = io.StringIO(body.decode(encoding), newline="")
        rows = [row for row in csv.reader(text, delimiter=sep, skipinitialspace=True) if row]
    except (UnicodeError, csv.Error) as error:
        raise PipelineError(f"this is no CSV in UTF-8: {error}", "") from error
    if len(rows) < 2:
        raise PipelineError("this CSV has no rows", "send a header and at least one row")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(rows[0]):
            said = f"row {number} has {len(row)} cells, and the header {len(rows[0])}"
            raise PipelineError(said, f"the cells are separated by {sep!r}")
    return json.dumps({"dataframe_split": {"columns": rows[0], "data": rows[1:]}}).encode()


def newest(served: Served, wanted: str) -> Served:
    """The version that an alias means now, loaded; the one that is served, if that is it.

    Raises:
        PipelineError: it is not there, or needs other packages than this process has.
    """
    from pipeline.models import registry

    version = registry.find(served.label.name, wanted)
    if version.number == served.label.version:
        return served
    label = Label(version.name, version.number, version.run, version.commit)
    found = Served.of(label, registry.fetch(version))
    if found.loaded.requirements != served.loaded.requirements:
        raise PipelineError(
            f"version {version.number} needs other packages than version {served.label.version}: "
            f"{', '.join(found.loaded.requirements)}",
            "start the server again: it then runs in that version's environment",
        )
    return found


def main(folder: str, options: str) -> None:
    """Serve the model in a folder until SIGTERM or Ctrl-C; requests under way are answered."""
    told = json.loads(options)
    served = Served.of(Label(**told["label"]), Path(folder))
    server = Server(served, told["wanted"], told["max_bytes"])
    with socket.socket(socket.AF_INET6 if ":" in told["host"] else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((told["host"], told["port"]))
        except OSError as error:
            raise SystemExit(
                f"error: {told['host']} port {told['port']}: {error.strerror}\n"
                "  give --port or --host, or end what listens there"
            ) from error
        listener.listen(1024)
        host, port = listener.getsockname()[:2]
        label = served.label
        print(f"{label.name} version {label.version}  http://{host}:{port}/invocations", flush=True)
        config = uvicorn.Config(server.app, log_level="warning", timeout_graceful_shutdown=30)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
