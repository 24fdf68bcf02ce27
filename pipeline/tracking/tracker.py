"""A project in a tracker, whichever tracker it is."""

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
from pipeline.tracking.wandb.agent import Named


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

    @cached_property
    def store(self) -> str:
        """Where artifacts are: the tracker, its server if it has one, and the project.

        In W&B the entity is part of it, by name, whether somebody has named it or not.

        Raises:
            PipelineError: W&B can't be asked whose the default entity is.
        """
        if self.kind == "wandb":
            where = f"{wandb_server()}/{wandb_entity() or load(self.kind).default_entity()}"
        else:
            folder = settings.trackio_dir().absolute()
            local = "local" if folder == settings.state_dir() / "trackio" else f"local {folder}"
            where = (os.environ.get("TRACKIO_SERVER_URL") or local).partition("?")[0]
        return f"{self.kind} {where} {self.project}"

    @property
    def shared(self) -> bool:
        """Whether others may have it too: not Trackio's own folder in the state folder."""
        if self.kind == "wandb":
            return True
        return not self.store.startswith("trackio local ") or settings.trackio_dir() != (
            settings.state_dir() / "trackio"
        )

    def is_at(self, store: str) -> bool:
        """Whether an earlier :attr:`store` means this place.

        Those of W&B's default entity were once written without its name.
        """
        if self.kind == "wandb" and f"/ {self.project}" in store:
            store = store.replace("/ ", f"/{load(self.kind).default_entity()} ")
        return self.store == store

    def dashboard(self, urls: Sequence[str]) -> str:
        """Where to look at runs with these addresses, in a line."""
        if self.kind == "trackio":
            return "dashboards: make dashboard"
        pages = [url.partition("/runs/")[0] for url in urls] or [wandb_server()]
        return f"dashboard: {pages[-1]}"

    def prepare(self) -> None:
        """Import W&B's library, and set the variables by which it is set up.

        It makes temporary folders that it keeps until the process ends, so it is imported before a
        run's own temporary folder is used; and before step workers are started, which are found by
        the environment that they were started with.
        """
        if self.kind == "wandb":
            load(self.kind).prepare()

    def load(self) -> None:
        """Import the tracker's library, which takes long, where there is time."""
        load(self.kind)

    def find(self, reference: str) -> Artifact | None:
        """The exact version that a reference means now; nothing is fetched or recorded."""
        found: Artifact | None = load(self.kind).find(self.project, reference)
        return found

    def fetch(self, reference: str, into: Path) -> Artifact:
        """Fetch an exact version's files into a folder, outside of any run.

        Raises:
            PipelineError: it does not exist, or its bytes do not match their digest.
        """
        fetched: Artifact = load(self.kind).fetch(self.project, reference, into)
        return fetched

    def set_alias(self, reference: str, alias: str) -> None:
        """Move an alias to this version; it leaves the version that had it before.

        Raises:
            PipelineError: there is no such version, or the tracker can't do it.
        """
        load(self.kind).set_alias(self.project, reference, alias)

    def link(self, reference: str, registry: str, collection: str, alias: str) -> None:
        """Link a version to a collection of W&B's Registry, where the alias means it from then on.

        Args:
            reference: ``name:version``.
            registry: the registry's name, ``model``, or ``ORGANIZATION/model``.
            collection: the collection's name, such as that of the model.
            alias: what it is for.

        Raises:
            PipelineError: the tracker is Trackio, or W&B refuses it.
        """
        if self.kind != "wandb":
            raise PipelineError(
                f"{reference} is in Trackio, and promotion.wandb_registry={registry} is W&B's",
                "its aliases in Trackio are moved; set promotion.wandb_registry=null",
            )
        load(self.kind).link(self.project, reference, registry, collection, alias)

    def open_run(
        self, *, job_type: str, name: str, config: Mapping[str, Any], named: Named | None = None
    ) -> TrackerRun:
        """Start a run, in the group that ``WANDB_RUN_GROUP`` names.

        Args:
            job_type: what it does, such as a step's name.
            name: how it is shown.
            config: its settings.
            named: the run in W&B that it has to be.
        """
        given: dict[str, Any] = {"job_type": job_type, "name": name, "config": config}
        module = load(self.kind)
        run: TrackerRun
        if self.kind == "trackio":
            run = module.TrackioRun(project=self.project, **given)
            return run
        if named and named.id:
            given |= {"id": named.id, "sweep": named.sweep}
        run = module.WandbRun(project=self.project, **given)
        return run


def load(kind: str) -> ModuleType:
    """Import the implementation of the tracker ``kind``."""
    if kind == "wandb":
        from pipeline.tracking.wandb import runs as wandb_runs

        return wandb_runs
    from pipeline.tracking.trackio import runs as trackio_runs

    return trackio_runs
