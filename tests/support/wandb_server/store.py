"""What the server remembers: projects with their runs and artifacts, and bytes by key."""

from threading import RLock
from typing import Any

from tests.support.wandb_server.artifacts import Artifact, Collection
from tests.support.wandb_server.encoding import global_id, now
from tests.support.wandb_server.execute import (
    Denied,
    GraphQLFailure,
    Missing,
    Node,
    connection,
)
from tests.support.wandb_server.multipart import Upload
from tests.support.wandb_server.registry import ORGANIZATION, PREFIX, Registry
from tests.support.wandb_server.runs import Run
from tests.support.wandb_server.sweeps import Sweep


class Store:
    """All state, in memory; use :attr:`lock` around whatever reads or changes it.

    Attributes:
        entity: the one user.
        entities: the user and the teams, by name; :meth:`team` adds one.
        storage_url: where bytes are read and written: a host of another name.
        projects: by the names of their owner and their own.
        registries: the organization's, by name; :meth:`registry` adds one.
        blobs: stored bytes; a file of an artifact is kept under its MD5 in hex.
        births: which artifact first brought a blob, by the blob's key.
        uploads: files that come in parts, by their keys.
    """

    def __init__(self, entity: str):
        self.entity = Entity(self, entity)
        self.entities = {entity: self.entity}
        self.storage_url = ""
        self.lock = RLock()
        self.projects: dict[tuple[str, str], Project] = {}
        self.blobs: dict[str, bytes] = {}
        self.births: dict[str, Artifact] = {}
        self.uploads: dict[str, Upload] = {}
        self.registries: dict[str, Registry] = {}
        self._nodes: dict[str, Node] = {}

    def add(self, kind: str, node: Node) -> str:
        """Keep a node so that it can be found by id; the id it gets."""
        number = len(self._nodes) + 1
        identifier = global_id(kind, number)
        self._nodes[identifier] = node
        return identifier

    def find(self, identifier: str, kind: type) -> Any:
        """The node with an id.

        Raises:
            GraphQLFailure: there is none of that kind.
        """
        node = self._nodes.get(identifier)
        if not isinstance(node, kind):
            raise GraphQLFailure(f"{kind.__name__} {identifier!r} was not found")
        return node

    def registry(self, name: str) -> Registry:
        """Make a registry, as an organization's administrator does."""
        return self.registries.setdefault(f"{PREFIX}{name}", Registry(self, f"{PREFIX}{name}"))

    def team(self, name: str, open: bool = True) -> "Entity":
        """Make a team; the user is a member of it, if it is open."""
        return self.entities.setdefault(name, Entity(self, name, open))

    def project(self, name: str, entity: str | None = None) -> "Project":
        """A project to write to, by name, made when it is new, as W&B does.

        What a refusal says: https://github.com/wandb/wandb/issues/2484 (404) and 9156 (403).

        Args:
            name: the project's.
            entity: its owner; the user's default one where none is named.

        Raises:
            Missing: there is no such owner.
            Denied: the user may not write to this owner's projects, or not to this one.
        """
        owner = self.entities.get(entity or self.entity.entity)
        if owner is None:
            raise Missing(f"entity {entity} not found during upsertBucket")
        if not owner.open:
            raise Denied("permission denied")
        key = (owner.name, name)
        project = self.projects.get(key) or self.projects.setdefault(
            key, Project(self, name, owner)
        )
        if project.read_only:
            raise Denied("permission denied")
        return project

    def crash(self) -> None:
        """Hear no more of the runs that go on: wandb/apis/public/runs.py, ``Run.state``."""
        for project in self.projects.values():
            for run in project.runs_by_id.values():
                run.state = "crashed" if run.state == "running" else run.state

    def has(self, key: str) -> bool:
        """Whether a blob is here as a whole."""
        upload = self.uploads.get(key)
        return key in self.blobs or bool(upload and upload.complete)

    def blob_url(self, key: str) -> str:
        """Where a blob can be read and written without a key, as by a signed URL."""
        return f"{self.storage_url}/{key}"


class Entity(Node):
    """A user or a team, and at once its namespace.

    Attributes:
        entity: the name of a user's default one.
        open: whether the user may write there.
    """

    xxhash_digests_enabled = False
    organization = ORGANIZATION
    user = None

    def __init__(self, store: Store, name: str, open: bool = True):
        self.store, self.open = store, open
        self.name = self.username = self.entity = name
        self.id = global_id(f"Entity-{name}", 0)
        self.email = f"{name}@example.com"
        self.flags: dict[str, Any] = {}
        self.admin = False

    def teams(self, **_: Any) -> dict:
        """The namespaces this user may write to."""
        return connection(one for one in self.store.entities.values() if one.open)


class Project(Node):
    """Runs by id, and artifacts by name.

    Attributes:
        read_only: whether the user may only look at it, whose owner's others may be written.
    """

    def __init__(self, store: Store, name: str, entity: Entity):
        self.store, self.read_only = store, False
        self.name, self.entity = name, entity
        self.id = store.add("Project", self)
        self.internal_id = str(len(store.projects) + 1)
        self.created_at = now()
        self.runs_by_id: dict[str, Run] = {}
        self.deleted: set[str] = set()
        self.collections: dict[str, Collection] = {}
        self.sweeps: dict[str, Sweep] = {}

    def delete(self, name: str) -> None:
        """Delete a run, whose id nobody gets again; its artifacts stay."""
        del self.runs_by_id[name]
        self.deleted.add(name)

    def run(self, name: str) -> Run | None:
        """A run by its short id, which W&B calls its name."""
        return self.runs_by_id.get(name)

    def sweep(self, sweep_name: str) -> Sweep | None:
        """A sweep by its short id."""
        return self.sweeps.get(sweep_name)

    def bucket(self, name: str, missing_ok: bool = False) -> Run | None:
        """The older name of :meth:`run`."""
        return self.run(name)

    def _matching(self, filters: str | None, order: str | None = None) -> list[Run]:
        runs = [run for run in self.runs_by_id.values() if run.matches(filters)]
        order = order or ""
        if "summary_metrics." in order:
            metric = order.partition("summary_metrics.")[2]
            runs.sort(key=lambda run: run.summary.get(metric, float("-inf")))
        return runs[::-1] if order.startswith("-") else runs

    def runs(self, filters=None, after=None, first=None, order=None) -> dict:
        """Runs from the oldest to the newest, or the other way round."""
        return connection(self._matching(filters, order), first, after)

    def run_count(self, filters: str | None = None) -> int:
        """How many runs there are."""
        return len(self._matching(filters))

    def artifact(self, name: str) -> Artifact | None:
        """The version that ``name``, ``name:alias`` or ``name:v0`` means."""
        collection, _, alias = name.partition(":")
        found = self.collections.get(collection)
        return found.version_for(alias or "latest") if found else None

    def artifact_collection_membership(self, name: str) -> Node | None:
        """The same, as a place in a collection."""
        found = self.artifact(name)
        return found.membership if found else None

    def artifact_collection(self, name: str) -> Collection | None:
        """All versions of one artifact."""
        return self.collections.get(name)

    def artifact_type(self, name: str) -> "ArtifactType | None":
        """A type that some artifact has."""
        known = {collection.type_name for collection in self.collections.values()}
        return ArtifactType(self, name) if name in known else None

    def artifact_types(self, **_: Any) -> dict:
        """All types that artifacts have."""
        names = sorted({collection.type_name for collection in self.collections.values()})
        return connection(ArtifactType(self, name) for name in names)


class ArtifactType(Node):
    """The artifacts of a project that have one type."""

    description = None

    def __init__(self, project: Project, name: str):
        self.project = project
        self.name = name
        self.id = global_id(f"ArtifactType-{name}", 0)
        self.created_at = project.created_at

    def artifact_collection(self, name: str) -> Collection | None:
        """One of them."""
        found = self.project.collections.get(name)
        return found if found and found.type_name == self.name else None

    def artifact_collections(self, after=None, first=None, **_: Any) -> dict:
        """All of them."""
        collections = self.project.collections.values()
        return connection((c for c in collections if c.type_name == self.name), first, after)
