"""A run: its settings, what it logged, and which artifacts it read and wrote."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.support.wandb_server.encoding import now, python_name
from tests.support.wandb_server.execute import Node, Plain, connection

if TYPE_CHECKING:
    from tests.support.wandb_server.artifacts import Artifact
    from tests.support.wandb_server.store import Project
    from tests.support.wandb_server.sweeps import Sweep

# Where upsertBucket puts what it is given; JSON text is kept as the object it stands for.
UPSERT_FIELDS = {
    "display_name": "display_name",
    "group_name": "group",
    "job_type": "job_type",
    "notes": "notes",
    "description": "description",
    "commit": "commit",
    "host": "host",
    "job_program": "program",
    "job_repo": "repo",
    "state": "state",
    "tags": "tags",
}

# The client says 255 after Ctrl-C: wandb/sdk/lib/exit_hooks.py. What W&B makes of an exit code:
# https://docs.wandb.ai/guides/runs/#run-states
STATES = {0: "finished", 255: "killed"}


class Run(Node):
    """A run, as W&B shows it.

    Attributes:
        name: its short id.
        state: ``pending``, ``running``, ``finished``, ``failed``, ``killed`` or ``crashed``.
        summary, history, events, console: what the file stream brought.
        files: names of uploaded files.
        used, logged: artifacts it read and wrote.
    """

    read_only = False
    system_metrics: Mapping[str, Any] = {}
    event_tail = None
    events_tail = "[]"

    def __init__(self, project: "Project", name: str):
        self.project = project
        self.name = name
        self.id = project.store.add("Run", self)
        self.project_id = project.internal_id
        self.created_at = self.heartbeat_at = now()
        self.display_name, self.state = name, "running"
        self.group = self.job_type = self.notes = self.description = None
        self.sweep = self.sweep_name = None
        self.commit = self.host = self.program = self.repo = None
        self.tags: list[str] = []
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history_rows: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.console: list[str] = []
        self.file_names: set[str] = set()
        self.exit_code: int | None = None
        self.used: list[Artifact] = []
        self.logged: list[Artifact] = []
        self.alerts: list[tuple[str, str, str]] = []

    def join(self, sweep: "Sweep") -> None:
        """Be one of a sweep's runs."""
        if self.sweep_name is None:
            self.sweep = self.sweep_name = sweep.name
            sweep.members.append(self)

    def upsert(self, given: Mapping[str, Any]) -> None:
        """Take over the settings that a client sent; those it left out stay."""
        for key, attribute in UPSERT_FIELDS.items():
            if given.get(key) is not None:
                setattr(self, attribute, given[key])
        if given.get("config"):
            self.config = json.loads(given["config"])
        if given.get("summary_metrics"):
            self.summary = json.loads(given["summary_metrics"])

    def stream(self, message: Mapping[str, Any]) -> None:
        """Take in one message of the file stream: lines of history, a summary, the exit."""
        self.heartbeat_at = now()
        for name, chunk in (message.get("files") or {}).items():
            self._stream_file(name, chunk["content"], chunk.get("offset", 0))
        if message.get("complete"):
            self.exit_code = message.get("exitcode", 0)
            self.state = STATES.get(self.exit_code, "failed")

    def _stream_file(self, name: str, lines: list[str], offset: int) -> None:
        """Put lines where they belong; a message sent twice changes nothing."""
        if name == "wandb-summary.json":
            self.summary = json.loads(lines[-1])
        elif name in ("wandb-history.jsonl", "wandb-events.jsonl"):
            target = self.history_rows if "history" in name else self.events
            target[offset : offset + len(lines)] = [json.loads(line) for line in lines]
        else:
            self.console[offset : offset + len(lines)] = lines

    def matches(self, filters: str | None) -> bool:
        """Whether a MongoDB-like filter holds; ``$and``, ``$or`` and equality are known."""
        return self._holds(json.loads(filters or "{}"))

    def _holds(self, condition: Mapping[str, Any]) -> bool:
        for key, wanted in condition.items():
            if key == "$and":
                good = all(self._holds(part) for part in wanted)
            elif key == "$or":
                good = any(self._holds(part) for part in wanted)
            elif key.startswith("config."):
                entry = self.config.get(key.split(".")[1], {})
                good = entry.get("value") == wanted
            else:
                good = getattr(self, python_name(key)) == wanted
            if not good:
                return False
        return True

    @property
    def user(self) -> Node:
        """Who made it."""
        return self.project.entity

    @property
    def summary_metrics(self) -> dict[str, Any]:
        """The summary, by its name in GraphQL."""
        return self.summary

    @property
    def history_line_count(self) -> int:
        """How often it logged."""
        return len(self.history_rows)

    @property
    def history_tail(self) -> str:
        """The last row of history, from which a client that resumes the run takes the step."""
        return json.dumps([json.dumps(row) for row in self.history_rows[-1:]])

    event_line_count = events_line_count = log_line_count = 0

    @property
    def history_keys(self) -> Plain:
        """The metrics in its history, in the form the client reads."""
        keys = {key for row in self.history_rows for key in row}
        last = max((row["_step"] for row in self.history_rows), default=-1)
        return Plain(keys={key: {"typeCounts": []} for key in keys}, lastStep=last, sets=[])

    def wandb_config(self, keys: list[str]) -> dict[str, Any]:
        """Part of what the client records about itself."""
        found = self.config.get("_wandb", {}).get("value", {})
        return {key: found[key] for key in keys if key in found}

    def history(self, min_step: int = 0, max_step: int | None = None, samples=None) -> list[str]:
        """Rows of history as JSON."""
        rows = [
            row
            for row in self.history_rows
            if row["_step"] >= min_step and (max_step is None or row["_step"] < max_step)
        ]
        return [json.dumps(row) for row in _sampled(rows, samples)]

    def sampled_history(self, specs: list[str]) -> list[list[dict[str, Any]]]:
        """For each specification, rows that have all of its keys."""
        answers = []
        for spec in map(json.loads, specs):
            keys = spec.get("keys") or []
            rows = [row for row in self.history_rows if all(key in row for key in keys)]
            answers.append(_sampled(rows, spec.get("samples")))
        return answers

    def parquet_history(self, live_keys: list[str]) -> dict[str, Any]:
        """All history is live; nothing has been moved into files."""
        return {"parquetUrls": [], "liveData": self.history_rows}

    def input_artifacts(self, after=None, first=None, **_: Any) -> dict:
        """What it used."""
        return connection(self.used, first, after)

    def output_artifacts(self, after=None, first=None, **_: Any) -> dict:
        """What it logged."""
        return connection(self.logged, first, after)

    def files(self, names: list[str] | None = None, after=None, first=None, **_: Any) -> dict:
        """Its uploaded files: images, tables, ``wandb-metadata.json``."""
        chosen = [name for name in sorted(self.file_names) if not names or name in names]
        return connection((RunFile(self, name) for name in chosen), first, after)

    @property
    def file_count(self) -> int:
        """How many files it has."""
        return len(self.file_names)

    def blob_key(self, file: str) -> str:
        """Where a file of this run is stored."""
        return f"runs/{self.project.name}/{self.name}/{file}"


def _sampled(rows: list[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """So many rows at most, as ``Run.history`` in wandb/apis/public/runs.py asks for them.

    W&B draws them; here they are equally far apart, and the last one is among them.
    """
    if not count or len(rows) <= count:
        return rows
    return [rows[(number + 1) * len(rows) // count - 1] for number in range(count)]


class RunFile(Node):
    """One uploaded file of a run."""

    typename = "File"

    def __init__(self, run: Run, name: str):
        key = run.blob_key(name)
        self.id = key
        self.name = self.display_name = self.storage_path = name
        self.url = self.direct_url = self.upload_url = run.project.store.blob_url(key)
        self.size_bytes = len(run.project.store.blobs.get(key, b""))
        self.mimetype = self.md5 = self.digest = None
        self.updated_at = run.heartbeat_at
