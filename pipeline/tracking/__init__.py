"""Trackers: where runs, metrics and artifacts are recorded.

Two implementations, Trackio (local, the default) and W&B, behind two small interfaces:
:class:`Tracker`, a project in a tracker, and :class:`TrackerRun`, a run in it. :func:`choose` says
which tracker is meant.
"""

import configparser
import netrc
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.core import settings
from pipeline.core.errors import PipelineError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

TRACKERS = ("auto", "wandb", "trackio")
WANDB_CLOUD = "https://api.forge.coreweave.com"
WANDB_LOGINS = ("api.forge.coreweave.com", "api.wandb.ai")  # names under which a login is kept


@dataclass(frozen=True)
class Artifact:
    """One exact version of an artifact.

    Attributes:
        name: its name within the project, such as ``clean_data.csv``.
        version: ``v0``, ``v1``, ...
        digest: SHA-256 of its content (:func:`pipeline.digests.content_digest`).
        type: ``raw_data``, ``processed_data``, ``split_data`` or ``model``.
        metadata: what was recorded beside it.
        path: the local folder that holds its files, once it has been fetched.
        stored: where a local tracker keeps its files, below the tracker's folder, and the
            digest each should have; empty where a server keeps them.
    """

    name: str
    version: str
    digest: str
    type: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    stored: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """``name:version``, the form in which one step hands it to the next."""
        return f"{self.name}:{self.version}"

    @property
    def file(self) -> Path:
        """The one file of a fetched artifact."""
        files = [path for path in self.path.rglob("*") if path.is_file()]
        if len(files) != 1:
            raise PipelineError(
                f"artifact {self.reference} holds {len(files)} files, and one was expected",
                "name an artifact that one of the steps has logged",
            )
        return files[0]


class TrackerRun(ABC):
    """A run in a tracker, from its start to :meth:`finish`."""

    kind: str
    id: str
    url: str | None

    @abstractmethod
    def use(self, reference: str, into: Path) -> Artifact:
        """Fetch ``name:version``, ``name:alias`` or ``name`` into a folder, as an input.

        Raises:
            PipelineError: it does not exist, or its bytes do not match their digest.
        """

    @abstractmethod
    def log_artifact(
        self,
        name: str,
        type: str,
        path: Path,
        description: str,
        metadata: Mapping[str, Any],
        aliases: Sequence[str] = (),
    ) -> Artifact:
        """Record a file or a folder as an output; bytes already there make no new version.

        The version, new or not, gets the aliases.
        """

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record numbers as the run's result."""

    @abstractmethod
    def log_figures(self, figures: Mapping[str, Path]) -> None:
        """Record PNG files as images."""

    @abstractmethod
    def log_table(self, name: str, table: "pd.DataFrame") -> None:
        """Record a table."""

    @abstractmethod
    def log_bars(self, name: str, values: "pd.Series") -> None:
        """Record one number per label as a bar chart, or as a table where there is none."""

    @abstractmethod
    def finish(self, failed: bool = False) -> None:
        """End the run and wait until all of it is stored."""


def wandb_server() -> str:
    """W&B's address: ``WANDB_BASE_URL``, what ``wandb login --host`` kept, or the cloud's."""
    if os.environ.get("WANDB_BASE_URL"):
        return os.environ["WANDB_BASE_URL"]
    kept = configparser.ConfigParser()
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    try:
        kept.read(folder / "settings", encoding="utf-8")
    except (configparser.Error, UnicodeError):
        return WANDB_CLOUD  # W&B says what is wrong with the file, once it is used
    return kept.get("default", "base_url", fallback=WANDB_CLOUD)


def wandb_credentials() -> bool:
    """Whether this machine is logged in to W&B, by environment or by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    server = wandb_server()
    hosts = [urlsplit(server).netloc, *(WANDB_LOGINS if server == WANDB_CLOUD else ())]
    files = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    for file in (Path(name).expanduser() for name in files if name):
        try:
            found = netrc.netrc(file).hosts if file.is_file() else {}
        except (netrc.NetrcParseError, OSError):
            continue  # W&B passes over a file that it can't read
        if any(host in found for host in hosts):
            return True
    return False


def choose(name: str) -> str:
    """The tracker that ``main.tracker`` means, ``wandb`` or ``trackio``.

    Raises:
        PipelineError: an unknown tracker, or W&B in a mode or without a key that cannot work.
    """
    if name not in TRACKERS:
        raise PipelineError(
            f"unknown tracker {name!r}{did_you_mean(name, TRACKERS)}",
            f"set main.tracker to one of: {', '.join(TRACKERS)}",
        )
    if name == "auto":
        wanted = wandb_credentials() or wandb_server() != WANDB_CLOUD
        name = "wandb" if wanted else "trackio"
    if name == "wandb":
        _require_wandb()
    return name


def _require_wandb() -> None:
    mode = os.environ.get("WANDB_MODE", "online").lower()
    if mode not in ("", "online", "shared"):
        raise PipelineError(
            f"WANDB_MODE={mode}: W&B cannot read artifacts back in that mode, and every step "
            "reads what the one before it logged",
            "unset WANDB_MODE, or use the local tracker: main.tracker=trackio",
        )
    if not wandb_credentials():
        raise PipelineError(
            "main.tracker is wandb, and no W&B key was found (WANDB_API_KEY, or a .netrc entry)",
            "run `wandb login`, or use the local tracker: main.tracker=trackio",
        )


@dataclass(frozen=True)
class Tracker:
    """A project in a tracker; the tracker's library is imported when it is first asked something.

    Attributes:
        kind: ``wandb`` or ``trackio``.
        project: the project's name.
    """

    kind: str
    project: str

    @classmethod
    def from_environment(cls) -> "Tracker":
        """What ``PIPELINE_TRACKER`` and ``WANDB_PROJECT`` name.

        Raises:
            PipelineError: that tracker can't be used here.
        """
        return cls(choose(os.environ.get(settings.TRACKER) or "auto"), settings.project())

    @classmethod
    def from_store(cls, store: str) -> "Tracker":
        """What an earlier :attr:`store` described; the default one for an empty text.

        Raises:
            PipelineError: that tracker can't be used here.
        """
        kind, project = store.partition(" ")[0], store.rpartition(" ")[2]
        return cls(choose(kind or "auto"), project or settings.project())

    @property
    def store(self) -> str:
        """Where artifacts are: the tracker, its server if it has one, and the project."""
        if self.kind == "wandb":
            entity = os.environ.get("WANDB_ENTITY", "")
            where = f"{wandb_server()}/{entity}"
        else:
            folder = settings.trackio_dir().absolute()
            local = "local" if folder == settings.state_dir() / "trackio" else f"local {folder}"
            where = (os.environ.get("TRACKIO_SERVER_URL") or local).partition("?")[0]
        return f"{self.kind} {where} {self.project}"

    def find(self, reference: str) -> Artifact | None:
        """The exact version that a reference means now; nothing is fetched or recorded."""
        return load(self.kind).find(self.project, reference)

    def fetch(self, reference: str, into: Path) -> Artifact:
        """Fetch an exact version's files into a folder, outside of any run.

        Raises:
            PipelineError: it does not exist, or its bytes do not match their digest.
        """
        return load(self.kind).fetch(self.project, reference, into)

    def set_alias(self, reference: str, alias: str) -> None:
        """Move an alias to this version; it leaves the version that had it before.

        Raises:
            PipelineError: there is no such version, or the tracker can't do it.
        """
        load(self.kind).set_alias(self.project, reference, alias)

    def open_run(self, *, job_type: str, name: str, config: Mapping[str, Any]) -> TrackerRun:
        """Start a run, in the group that ``WANDB_RUN_GROUP`` names."""
        module = load(self.kind)
        run = module.WandbRun if self.kind == "wandb" else module.TrackioRun
        return run(project=self.project, job_type=job_type, name=name, config=config)


def load(kind: str) -> ModuleType:
    """Import the implementation of the tracker ``kind``."""
    if kind == "wandb":
        from pipeline.tracking import wandb as module
    else:
        from pipeline.tracking import trackio as module
    return module
