"""W&B's Registry: an organization's projects, whose collections link to versions of artifacts.

What is asked and answered: LINK_ARTIFACT_GQL and ARTIFACT_MEMBERSHIP_BY_NAME_GQL in
wandb/sdk/artifacts/_generated/operations.py, ``Artifact.link`` in wandb/sdk/artifacts/artifact.py,
and https://docs.wandb.ai/guides/registry/link_version. What a refusal says is made up here.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tests.support.wandb_server.encoding import global_id, now
from tests.support.wandb_server.execute import Node, Refused

if TYPE_CHECKING:
    from tests.support.wandb_server.artifacts import Artifact
    from tests.support.wandb_server.store import Store

PREFIX = "wandb-registry-"
ORGANIZATION = {"coreWeaveOrganizationId": None, "name": "Acme", "orgEntity": {"name": "acme-org"}}


class Registry(Node):
    """A registry of the organization.

    Attributes:
        read_only: whether the user may only look at it.
    """

    typename = "Project"

    def __init__(self, store: "Store", name: str):
        self.name = name
        self.id = store.add("Registry", self)
        self.internal_id = self.id
        self.entity = ORGANIZATION["orgEntity"]
        self.read_only = False
        self.collections: dict[str, Portfolio] = {}

    def link(self, artifact: "Artifact", name: str, aliases: Iterable[str]) -> "Link":
        """Link a version to a collection, which is made if it is new.

        Raises:
            Refused: the user may not.
        """
        if self.read_only:
            raise Refused(f"permission denied: tester can't link to {self.name}")
        collection = self.collections.setdefault(name, Portfolio(self, name))
        if artifact not in collection.links:
            collection.links.append(artifact)
        collection.alias_of |= dict.fromkeys(["latest", *aliases], artifact)
        return Link(collection, artifact)

    def artifact_collection_membership(self, name: str) -> "Link | None":
        """The place that ``name:alias`` or ``name:v0`` means."""
        collection, _, alias = name.partition(":")
        found = self.collections.get(collection)
        artifact = found.version_for(alias or "latest") if found else None
        return Link(found, artifact) if found and artifact else None


class Portfolio(Node):
    """A collection in a registry, with numbers and aliases of its own."""

    typename = "ArtifactPortfolio"

    def __init__(self, registry: Registry, name: str):
        self.project, self.name = registry, name
        self.id = global_id(f"ArtifactPortfolio-{registry.name}-{name}", 0)
        self.links: list[Artifact] = []
        self.alias_of: dict[str, Artifact] = {}

    def version_for(self, alias: str) -> "Artifact | None":
        """The version that an alias or ``v0`` means."""
        if re.fullmatch(r"v\d+", alias):
            return dict(enumerate(self.links)).get(int(alias[1:]))
        return self.alias_of.get(alias)


class Link(Node):
    """A version's place in a registry's collection."""

    typename = "ArtifactCollectionMembership"

    def __init__(self, collection: Portfolio, artifact: "Artifact"):
        self.artifact_collection, self.artifact = collection, artifact
        self.id = global_id(f"Link-{collection.id}-{artifact.id}", 0)
        self.version_index = collection.links.index(artifact)
        self.created_at = now()
        names = [name for name, one in collection.alias_of.items() if one is artifact]
        self.aliases: list[dict[str, Any]] = [
            {"__typename": "ArtifactAlias", "id": f"{self.id}-{name}", "alias": name}
            for name in names
        ]
