"""Artifacts: collections, their versions and aliases, the files of a version, and lineage."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tests.support.wandb_server.encoding import global_id, hex_digest, now
from tests.support.wandb_server.execute import GraphQLFailure, Node, connection

if TYPE_CHECKING:
    from tests.support.wandb_server.runs import Run
    from tests.support.wandb_server.store import Project


class Collection(Node):
    """All versions of an artifact; W&B calls it a sequence."""

    typename = "ArtifactSequence"
    description = None
    state = "READY"
    digest_algorithm = "MANIFEST_MD5"

    def __init__(self, project: "Project", name: str, type_name: str):
        self.project = project
        self.name = name
        self.type_name = type_name
        self.id = project.store.add("ArtifactCollection", self)
        self.created_at = self.updated_at = now()
        self.versions: list[Artifact] = []
        self.alias_of: dict[str, Artifact] = {}

    def version_for(self, alias: str) -> "Artifact | None":
        """The version that an alias or ``v3`` means."""
        if re.fullmatch(r"v\d+", alias):
            return next((one for one in self.live if one.version == alias), None)
        return self.alias_of.get(alias)

    def with_digest(self, digest: str) -> "Artifact | None":
        """The version that has this content already."""
        return next((one for one in self.live if one.digest == digest), None)

    @property
    def live(self) -> list["Artifact"]:
        """The versions that nobody has deleted; a number is given once."""
        return [one for one in self.versions if one.state == "COMMITTED"]

    def delete(self, artifact: "Artifact") -> None:
        """Delete a version: ``ArtifactState`` in wandb/sdk/artifacts/artifact_state.py."""
        artifact.state = "DELETED"
        self.unpoint([*self.alias_of], artifact)
        if self.live:
            self.point(["latest"], self.alias_of.get("latest") or self.live[-1])

    def append(self, artifact: "Artifact") -> None:
        """Make it the next version."""
        artifact.version_index = len(self.versions)
        artifact.state = "COMMITTED"
        self.versions.append(artifact)

    def point(self, aliases: Iterable[str], artifact: "Artifact") -> None:
        """Let aliases mean this version from now on."""
        self.alias_of |= dict.fromkeys(aliases, artifact)

    def unpoint(self, aliases: Iterable[str], artifact: "Artifact") -> None:
        """Take aliases from this version."""
        for alias in aliases:
            if self.alias_of.get(alias) is artifact:
                del self.alias_of[alias]

    @property
    def default_artifact_type(self) -> dict[str, str]:
        """Its type."""
        return {"name": self.type_name}

    @property
    def latest_artifact(self) -> "Artifact | None":
        """The version called ``latest``."""
        return self.alias_of.get("latest")

    def tags(self, **_: Any) -> dict:
        """Collections have none here."""
        return connection([])

    def aliases(self, after=None, first=None) -> dict:
        """All aliases of all versions."""
        everything = (Alias(alias, one) for alias, one in self.alias_of.items())
        return connection(everything, first, after)

    def artifacts(self, after=None, first=None, **_: Any) -> dict:
        """The versions, newest first."""
        return connection(self.live[::-1], first, after)

    def artifact_membership(self, alias_name: str) -> "Membership | None":
        """The place of one version."""
        found = self.version_for(alias_name)
        return found.membership if found else None


class Alias(Node):
    """A name for a version."""

    typename = "ArtifactAlias"

    def __init__(self, alias: str, artifact: "Artifact"):
        self.alias = alias
        self.id = global_id(f"ArtifactAlias-{artifact.id}-{alias}", 0)
        self.artifact_collection = artifact.collection


class Artifact(Node):
    """One version of an artifact.

    Attributes:
        collection: the artifact it is a version of.
        digest: W&B's, over the manifest.
        made_by, users: the run that logged it first, and those that used it.
        manifest: path to entry, once the client has uploaded it.
    """

    ttl_duration_seconds = -2  # "inherit", for which W&B uses a number
    ttl_is_inherited = True
    history_step = None
    digest_algorithm = "MANIFEST_MD5"
    type_of_creator = "Run"

    def __init__(self, collection: Collection, run: "Run | None", given: Mapping[str, Any]):
        store = collection.project.store
        self.collection = self.artifact_sequence = collection
        self.id = store.add("Artifact", self)
        self.digest: str = given["digest"]
        self.description: str | None = given.get("description")
        self.metadata: str = given.get("metadata") or "{}"
        self.client_id = given.get("client_id")
        self.commit_hash = global_id("commit", len(self.id))
        self.state = "PENDING"
        self.version_index: int | None = None
        self.wanted_aliases: list[str] = [one["alias"] for one in given.get("aliases") or []]
        self.tag_names: list[str] = [tag["tagName"] for tag in given.get("tags") or []]
        self.made_by = self.created_by = run
        self.users: list[Run] = []
        self.created_at = self.updated_at = now()
        self.manifest_key = f"manifests/{self.id}"

    @property
    def version(self) -> str:
        """``v0``, ``v1``, ..."""
        return f"v{self.version_index}"

    @property
    def name(self) -> str:
        """``clean_data.csv:v0``."""
        return f"{self.collection.name}:{self.version}"

    @property
    def artifact_type(self) -> dict[str, str]:
        """Its type."""
        return self.collection.default_artifact_type

    @property
    def alias_names(self) -> list[str]:
        """The aliases that mean this version now."""
        return [alias for alias, one in self.collection.alias_of.items() if one is self]

    @property
    def aliases(self) -> list[Alias]:
        """The same as nodes."""
        return [Alias(alias, self) for alias in self.alias_names]

    @property
    def tags(self) -> list[dict[str, str]]:
        """Its tags."""
        return [{"__typename": "Tag", "id": name, "name": name} for name in self.tag_names]

    @property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """Its files: path to digest and size."""
        stored = self.collection.project.store.blobs.get(self.manifest_key)
        return json.loads(stored)["contents"] if stored else {}

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(entry.get("size", 0) for entry in self.manifest.values())

    @property
    def file_count(self) -> int:
        """How many files it has."""
        return len(self.manifest)

    @property
    def current_manifest(self) -> dict[str, Any]:
        """Where the manifest is."""
        url = self.collection.project.store.blob_url(self.manifest_key)
        return {"file": {"directUrl": url}}

    @property
    def membership(self) -> "Membership":
        """Its place in its collection."""
        return Membership(self)

    def artifact_memberships(self, **_: Any) -> dict:
        """Its places in all collections; it is linked to no other."""
        return connection([self.membership])

    def used_by(self, **_: Any) -> dict:
        """The runs that read it."""
        return connection(self.users)

    def files(self, names: list[str] | None = None, after=None, first=None) -> dict:
        """Its files, with addresses."""
        chosen = [path for path in sorted(self.manifest) if not names or path in names]
        return connection((ArtifactFile(self, path) for path in chosen), first, after)

    def blob_key(self, path: str) -> str:
        """Where the bytes of one file are stored.

        Raises:
            GraphQLFailure: the manifest names no such file.
        """
        if path not in self.manifest:
            raise GraphQLFailure(f"{self.name} has no file {path!r}")
        return hex_digest(self.manifest[path]["digest"])


class Membership(Node):
    """An artifact's place in a collection."""

    typename = "ArtifactCollectionMembership"

    def __init__(self, artifact: Artifact):
        self.artifact = artifact
        self.id = global_id(f"Membership-{artifact.id}", 0)
        self.artifact_collection = artifact.collection
        self.version_index = artifact.version_index
        self.created_at = artifact.created_at
        self.aliases = artifact.aliases
        self.files = artifact.files


class ArtifactFile(Node):
    """One file of an artifact."""

    typename = "File"

    def __init__(self, artifact: Artifact, path: str):
        entry = artifact.manifest[path]
        key = artifact.blob_key(path)
        self.id = f"{artifact.id}/{path}"
        self.name = self.display_name = path
        self.url = self.direct_url = artifact.collection.project.store.blob_url(key)
        self.size_bytes = entry.get("size", 0)
        self.storage_path = key
        self.digest = self.md5 = entry["digest"]
        self.mimetype = None
        self.updated_at = artifact.updated_at
