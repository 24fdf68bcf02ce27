"""Trackers: where runs, metrics and artifacts are recorded.

Two implementations, Trackio (local, the default) and W&B, behind two small interfaces:
:class:`Tracker`, a project in a tracker, and :class:`TrackerRun`, a run in it. :func:`choose` says
which tracker is meant.
"""

import configparser
import netrc
import os
import shutil
import sys
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
        digest: SHA-256 of its content (:func:`pipeline.core.files.content_digest`).
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

    def download(self, root: str | Path | None = None) -> Path:
        """The folder with the artifact's files.

        Args:
            root: a folder to copy them to; None: where they were fetched.

        Raises:
            PipelineError: the artifact was found or logged, not fetched.
        """
        if self.path is None:
            raise PipelineError(
                f"the files of artifact {self.reference} were not fetched",
                f"fetch them: run.use_artifact({self.reference!r})",
            )
        return Path(shutil.copytree(self.path, root, dirs_exist_ok=True)) if root else self.path

    def file(self, root: str | Path | None = None) -> Path:
        """The artifact's only file.

        Args:
            root: a folder to copy it to; None: where it was fetched.

        Raises:
            PipelineError: the artifact holds more files, or none.
        """
        folder = self.download()
        files = [path for path in folder.rglob("*") if path.is_file()]
        if len(files) != 1:
            raise PipelineError(
                f"artifact {self.reference} holds {len(files)} files, and one was expected",
                "name an artifact that one of the steps has logged",
            )
        return self.download(root) / files[0].relative_to(folder)

    def wait(self) -> "Artifact":
        """The artifact itself, for code written for W&B: ``log_artifact`` has waited already."""
        return self


class TrackerRun(ABC):
    """A run in a tracker, from its start to :meth:`finish`. The verbs are W&B's.

    Attributes:
        kind: the tracker, ``trackio`` or ``wandb``.
        id: the run's id there.
        url: the run's page, if the tracker has a server.
    """

    kind: str
    id: str
    url: str | None

    @abstractmethod
    def use_artifact(self, reference: str, into: Path) -> Artifact:
        """Fetch ``name:version``, ``name:alias`` or ``name`` into a folder, as an input.

        Raises:
            PipelineError: it does not exist, or its bytes do not match their digest.
        """

    @abstractmethod
    def log_artifact(
        self,
        path: Path,
        name: str,
        type: str,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> Artifact:
        """Record a file or a folder as an output; bytes already there make no new version.

        The version, new or not, gets the aliases.
        """

    @abstractmethod
    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Record values by name.

        A ``Path`` is logged as an image, a ``DataFrame`` as a table, a ``Series`` as a bar chart
        of its labels, and anything else as the tracker's library takes it.
        """

    @abstractmethod
    def update(self, summary: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Record values of the run as a whole, over those logged so far, and its settings."""

    @abstractmethod
    def finish(self, failed: bool = False) -> None:
        """End the run and wait until all of it is stored."""

    @abstractmethod
    def image(self, path: Path) -> Any:
        """An image file as an object of the tracker's library."""

    @abstractmethod
    def table(self, frame: "pd.DataFrame") -> Any:
        """A table as an object of the tracker's library."""

    @abstractmethod
    def bars(self, name: str, values: "pd.Series") -> Any:
        """A bar chart as an object of the tracker's library; a table, if there is none."""

    def loggable(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the tracker's library takes them."""

        def convert(name: str, value: Any) -> Any:
            if isinstance(value, Path):
                return self.image(value)
            if is_table(value):
                return self.table(value)
            return self.bars(name, value) if _is_of_pandas("Series", value) else value

        return {name: convert(name, value) for name, value in values.items()}


def is_table(value: Any) -> bool:
    """Whether a value is a table of pandas."""
    return _is_of_pandas("DataFrame", value)


def _is_of_pandas(kind: str, value: Any) -> bool:
    pandas = sys.modules.get("pandas")  # a step that has not imported it has no tables
    return pandas is not None and isinstance(value, getattr(pandas, kind))


def files_of(artifact: Any) -> dict[str, Path]:
    """The files that were added to a ``wandb.Artifact`` or a ``trackio.Artifact``, by their name.

    Raises:
        PipelineError: the artifact refers to files elsewhere, or it is no artifact.
    """
    if hasattr(artifact, "_pending_files"):
        files = {name: path for path, name in artifact._pending_files}
        elsewhere = [address for _, address, *_ in artifact._pending_references]
    elif hasattr(artifact, "manifest"):
        entries = artifact.manifest.entries
        files = {name: entry.local_path for name, entry in entries.items()}
        elsewhere = [entry.ref for entry in entries.values() if entry.ref]
    else:
        raise PipelineError(
            f"log_artifact was given {artifact!r}",
            "give it a path, a wandb.Artifact or a trackio.Artifact",
        )
    if elsewhere:
        raise PipelineError(
            f"artifact {artifact.name!r} refers to {elsewhere[0]}, whose bytes can change",
            "download the file and add it: artifact.add_file(...)",
        )
    return {name: Path(path) for name, path in files.items()}


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

    @property
    def shared(self) -> bool:
        """Whether others may have it too: not Trackio's own folder in the state folder."""
        return not self.store.startswith("trackio local ") or settings.trackio_dir() != (
            settings.state_dir() / "trackio"
        )

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
