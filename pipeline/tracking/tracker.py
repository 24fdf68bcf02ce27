"""A project in Trackio or W&B."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.tracking.choice import choose, wandb_entity, wandb_server
from pipeline.tracking.interface import Artifact, TrackerRun
from pipeline.tracking.wandb.agent import RequestedRun


@dataclass(frozen=True)
class Tracker:
    """A project in a tracker; the tracker's library is imported on first use.

    Attributes:
        kind: ``wandb`` or ``trackio``.
        project: the project's name.
    """

    kind: str
    project: str

    @classmethod
    def from_environment(cls) -> "Tracker":
        """The tracker and project in ``PIPELINE_TRACKER`` and ``WANDB_PROJECT``.

        Raises:
            PipelineError: that tracker can't be used here.
        """
        return cls(choose(os.environ.get(settings.TRACKER) or "auto"), settings.project())

    @classmethod
    def from_store(cls, store: str) -> "Tracker":
        """The tracker that :attr:`store` describes; the default tracker for an empty text.

        Raises:
            PipelineError: that tracker can't be used here.
        """
        kind, project = store.partition(" ")[0], store.rpartition(" ")[2]
        return cls(choose(kind or "auto"), project or settings.project())

    @cached_property
    def store(self) -> str:
        """Where artifacts are: the tracker, its server or folder, and the project.

        For W&B it includes the entity's name, even if that is the default entity.

        Raises:
            PipelineError: W&B does not tell the default entity.
        """
        if self.kind == "wandb":
            location = f"{wandb_server()}/{wandb_entity() or load(self.kind).default_entity()}"
        else:
            folder = settings.trackio_dir().absolute()
            local = "local" if folder == settings.state_dir() / "trackio" else f"local {folder}"
            location = (os.environ.get("TRACKIO_SERVER_URL") or local).partition("?")[0]
        return f"{self.kind} {location} {self.project}"

    @property
    def shared(self) -> bool:
        """Whether other checkouts may use the store: all but Trackio in the state folder."""
        if self.kind == "wandb":
            return True
        return not self.store.startswith("trackio local ") or settings.trackio_dir() != (
            settings.state_dir() / "trackio"
        )

    def is_at(self, store: str) -> bool:
        """Whether a recorded :attr:`store` is this store.

        Earlier records lack the name of W&B's default entity.
        """
        if self.kind == "wandb" and f"/ {self.project}" in store:
            store = store.replace("/ ", f"/{load(self.kind).default_entity()} ")
        return self.store == store

    def dashboard(self, urls: Sequence[str]) -> str:
        """A line that says where to see the runs with these addresses."""
        if self.kind == "trackio":
            return "dashboards: make dashboard"
        pages = [url.partition("/runs/")[0] for url in urls] or [wandb_server()]
        return f"dashboard: {pages[-1]}"

    def prepare(self) -> None:
        """Import and configure W&B's library; does nothing for Trackio.

        Call it before a run's temporary folder is set, because wandb makes temporary folders that
        it keeps until the process ends; and before step workers are started, because workers are
        looked up by the environment that they were started with.
        """
        if self.kind == "wandb":
            load(self.kind).prepare()

    def load(self) -> None:
        """Import the tracker's library ahead of its first use, because that is slow."""
        load(self.kind)

    def find(self, reference: str) -> Artifact | None:
        """Resolve a reference to an exact version, without fetching or recording a use."""
        artifact: Artifact | None = load(self.kind).find(self.project, reference)
        return artifact

    def fetch(self, reference: str, into: Path) -> Artifact:
        """Fetch a version's files into a folder, outside of any run.

        Raises:
            PipelineError: it does not exist, or its bytes do not match their digest.
        """
        artifact: Artifact = load(self.kind).fetch(self.project, reference, into)
        return artifact

    def set_alias(self, reference: str, alias: str) -> None:
        """Move an alias to this version.

        Raises:
            PipelineError: there is no such version, or the tracker can't move the alias.
        """
        load(self.kind).set_alias(self.project, reference, alias)

    def link(self, reference: str, registry: str, collection: str, alias: str) -> None:
        """Link a version to a collection of W&B's Registry, and move the alias to it there.

        Args:
            reference: ``name:version``.
            registry: the registry's name, ``model``, or ``ORGANIZATION/model``.
            collection: the collection's name, such as the model's name.
            alias: the alias in the collection.

        Raises:
            PipelineError: the tracker is Trackio, or W&B refuses the link.
        """
        if self.kind != "wandb":
            raise PipelineError(
                f"promotion.wandb_registry={registry} needs W&B, and {reference} is in Trackio",
                "set promotion.wandb_registry=null; the aliases in Trackio are moved already",
            )
        load(self.kind).link(self.project, reference, registry, collection, alias)

    def open_run(
        self,
        *,
        job_type: str,
        name: str,
        config: Mapping[str, Any],
        requested: RequestedRun | None = None,
    ) -> TrackerRun:
        """Start a run, in the group ``WANDB_RUN_GROUP``.

        Args:
            job_type: W&B's job type, such as a step's name.
            name: the run's display name.
            config: the run's settings.
            requested: the W&B run to resume, if a user or a sweep agent requests one.
        """
        options: dict[str, Any] = {"job_type": job_type, "name": name, "config": config}
        module = load(self.kind)
        run: TrackerRun
        if self.kind == "trackio":
            run = module.TrackioRun(project=self.project, **options)
            return run
        if requested and requested.id:
            options |= {"id": requested.id, "sweep": requested.sweep}
        run = module.WandbRun(project=self.project, **options)
        return run


def load(kind: str) -> ModuleType:
    """Import the module that implements the tracker ``kind``."""
    if kind == "wandb":
        from pipeline.tracking.wandb import runs as wandb_runs

        return wandb_runs
    from pipeline.tracking.trackio import runs as trackio_runs

    return trackio_runs
