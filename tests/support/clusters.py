"""Machines that have nothing of ours: what Docker, Kubernetes and Databricks are asked, and do.

One server on loopback answers all three APIs as far as MLflow uses them. It keeps each request, and
runs what it is sent as a process in a folder of its own, with the variables of the request alone.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.serving import serving

DIGEST = f"sha256:{'5' * 64}"
TAG = "registry.example/pipeline:0"


@dataclass
class Cluster:
    """What was asked of it, and the processes it runs."""

    folder: Path
    secrets: dict[str, str]
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    jobs: dict[str, subprocess.Popen] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    code: Path | None = None
    port: int = 0

    def bodies(self, path: str) -> list[Any]:
        """The bodies of the requests to an address."""
        return [body for _, asked, body in self.requests if re.search(path, asked)]

    def unpack(self, archive: bytes) -> None:
        """Take the code that was sent, as an image or as a project."""
        into = self.folder / f"code{len(self.requests)}"
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(into, filter="data")
        (self.code,) = into.iterdir()

    def start(self, name: str, command: list[str], variables: dict[str, str]) -> None:
        """Run a command with nothing but what it was sent."""
        home, temporary = self.folder / "home", self.folder / "tmp"
        for folder in (home, temporary):
            folder.mkdir(exist_ok=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
        own = {"PATH": path, "HOME": str(home), "TMPDIR": str(temporary), "NO_PROXY": "127.0.0.1"}
        env = own | variables
        with (self.folder / f"{name}.log").open("wb") as log:
            self.jobs[name] = subprocess.Popen(
                command, cwd=self.code, env=env, stdout=log, stderr=log, start_new_session=True
            )


class Handler(BaseHTTPRequestHandler):
    """The three APIs, told apart by their addresses."""

    cluster: Cluster

    def answer(self) -> None:
        """Keep the request, act, and say what the real one would."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        with contextlib.suppress(ValueError):
            body = json.loads(body)
        self.cluster.requests.append((self.command, self.path, body))
        self.cluster.asked.set()
        self.cluster.tokens.add(self.headers.get("Authorization", ""))
        path = re.sub(r"^/v1\.\d+", "", self.path).partition("?")[0]
        for pattern, act in ACTS.items():
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                self._send(*act(self.cluster, body, *match.groups()))
                return
        self._send({"message": f"no {path} here"}, 404)

    do_GET = do_POST = do_DELETE = answer

    def _chunks(self) -> bytes:
        found = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return found

    def _send(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who asked may have been interrupted
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def build(cluster: Cluster, body: bytes) -> tuple:
    cluster.unpack(body)
    return ({"stream": "Successfully built 0123456789ab\n"},)


def create_job(cluster: Cluster, job: dict, namespace: str) -> tuple:
    name = job["metadata"]["name"]
    container = job["spec"]["template"]["spec"]["containers"][0]
    variables = {
        entry["name"]: entry["value"]
        if "value" in entry
        else cluster.secrets[entry["valueFrom"]["secretKeyRef"]["key"]]
        for entry in container["env"]
    }
    cluster.start(name, container["command"], variables)
    return job, 201


def job_status(cluster: Cluster, _: Any, namespace: str, name: str) -> tuple:
    kind = "Failed" if cluster.jobs[name].wait() else "Complete"
    condition = {"type": kind, "status": "True", "message": kind}
    return ({"status": {"startTime": "2026-01-01T00:00:00Z", "conditions": [condition]}},)


def delete_job(cluster: Cluster, _: Any, namespace: str, name: str) -> tuple:
    os.killpg(cluster.jobs[name].pid, 9)
    return ({"status": "Success"},)


def upload(cluster: Cluster, body: bytes) -> tuple:
    cluster.unpack(body)
    return ({},)


def submit(cluster: Cluster, job: dict) -> tuple:
    """Run the last part of the command; what is before it unpacks the project into /databricks."""
    task = job["shell_command_task"]
    bash, option, script = task["command"]
    run = re.sub(r"/databricks/mlflow/projects/\w+", ".", script[script.rindex("mlflow run") :])
    cluster.start("7", [bash, option, run], {**task["env_vars"], **cluster.secrets})
    return ({"run_id": 7},)


def job_run(cluster: Cluster, _: Any) -> tuple:
    state = "FAILED" if cluster.jobs["7"].wait() else "SUCCESS"
    return ({"run_page_url": "https://example/7", "job_id": 3, "state": {"result_state": state}},)


JOBS = r"/apis/batch/v1/namespaces/(\w+)/jobs"
ACTS = {
    r"GET /version": lambda *_: ({"ApiVersion": "1.43", "MinAPIVersion": "1.24"},),
    r"POST /build": build,
    r"GET /images/.+/json": lambda *_: ({"Id": DIGEST, "RepoTags": [TAG]},),
    r"POST /images/.+/push": lambda *_: ({"status": "pushed"},),
    r"GET /distribution/.+/json": lambda *_: ({"Descriptor": {"digest": DIGEST}, "Platforms": []},),
    rf"POST {JOBS}": create_job,
    rf"GET {JOBS}/([\w-]+)/status": job_status,
    rf"DELETE {JOBS}/([\w-]+)": delete_job,
    r"GET /api/2.0/dbfs/get-status": lambda *_: ({"error_code": "RESOURCE_DOES_NOT_EXIST"}, 404),
    r"POST /dbfs/.+": upload,
    r"POST /api/2.0/jobs/runs/submit": submit,
    r"GET /api/2.0/jobs/runs/get": job_run,
}


@contextlib.contextmanager
def cluster(folder: Path, **secrets: str) -> Iterator[Cluster]:
    """A cluster that listens on loopback until the end of the block."""
    found = Cluster(folder, secrets)
    handler = type("Handler", (Handler,), {"cluster": found})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, serving(server):
        found.port = server.server_port
        try:
            yield found
        finally:
            for process in found.jobs.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                process.wait()
