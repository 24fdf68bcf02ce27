"""What a client can ask (:class:`Query`) and change (:class:`Mutation`)."""

import json
from collections.abc import Mapping
from typing import Any

import wandb

from tests.support.wandb_server.artifacts import Artifact, Collection
from tests.support.wandb_server.encoding import hex_digest, python_name
from tests.support.wandb_server.execute import (
    Conflict,
    GraphQLFailure,
    Node,
    Plain,
    Refused,
    connection,
)
from tests.support.wandb_server.multipart import Upload
from tests.support.wandb_server.registry import ORGANIZATION, Registry
from tests.support.wandb_server.runs import Run
from tests.support.wandb_server.store import Entity, Project, Store
from tests.support.wandb_server.sweeps import Agent, Sweep

# What W&B's cloud says it can do, as far as this server can do it.
FEATURES = (
    "ARTIFACT_TAGS",
    "CLIENT_IDS",
    "LARGE_FILENAMES",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
    "ARTIFACT_V2_DOWNLOAD_HANDLER_SUPPORTS_ARTIFACT_ID",
    "ARTIFACT_DIGEST_ALGORITHM",
    "ARTIFACT_MEMBERSHIP_IN_LINK_ARTIFACT_RESPONSE",
)

# What a storage asks of each upload but those in parts, as S3's does of what a URL was signed with:
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html. How the client is told:
# ``Run.upload_file`` in wandb/apis/public/runs.py, file_transfer_default.go of wandb-core.
UPLOAD_HEADERS = [("x-amz-server-side-encryption", "AES256")]
SIGNED = [f"{name}:{value}" for name, value in UPLOAD_HEADERS]

# What W&B says of the id of a deleted run: https://github.com/wandb/wandb/issues/4897
DELETED = "run {} was previously created and deleted; try a new run name"


# The states in which a run may be given another one: ``Run.update_state``
MAY_BECOME = {
    "pending": ("running", "failed", "crashed", "preempted"),
    "failed": ("pending", "running"),
}


class Query(Node):
    """The fields of a query."""

    def __init__(self, store: Store):
        self.store = store

    @property
    def viewer(self) -> Entity:
        """Whose key it is."""
        return self.store.entity

    @property
    def server_info(self) -> dict[str, Any]:
        """What this server can do."""
        features = [{"name": name, "isEnabled": True} for name in FEATURES]
        # what `wandb verify` compares: wandb/sdk/verify/verify.py, check_wandb_version
        versions = Plain(max_cli_version=wandb.__version__, min_cli_version="0.15.0")
        return {"features": features, "cliVersionInfo": versions}

    def entity(self, name: str) -> Entity | None:
        """The user, or a team."""
        return self.store.entities.get(name)

    def organization(self, name: str) -> None:
        """There is none."""

    def project(self, name: str, entity_name: str | None = None) -> Project | Registry | None:
        """A project, if it exists."""
        if entity_name == ORGANIZATION["orgEntity"]["name"]:
            return self.store.registries.get(name)
        return self.store.projects.get((entity_name or self.store.entity.entity, name))

    def model(self, name: str, entity_name: str | None = None) -> Project | None:
        """The older name of a project."""
        return self.project(name, entity_name)

    def artifact(self, id: str) -> Artifact:
        """A version by its id."""
        return self.store.find(id, Artifact)

    def artifact_collection(self, id: str) -> Collection:
        """All versions, by the id of their collection."""
        return self.store.find(id, Collection)


class Mutation(Node):
    """The fields of a mutation; each takes one ``input``."""

    def __init__(self, store: Store):
        self.store = store

    def field(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Hand the input's fields over by their Python names."""
        given = {python_name(key): value for key, value in arguments.get("input", {}).items()}
        change = getattr(self, python_name(name), None)
        if change is None:
            raise GraphQLFailure(f'Cannot query field "{name}" on type "Mutation".')
        return change(given)

    def _project(self, given: Mapping[str, Any]) -> Project:
        return self.store.project(given["project_name"], given.get("entity_name"))

    def _run(self, given: Mapping[str, Any]) -> Run:
        run = self._project(given).run(given["run_name"])
        if run is None:
            raise GraphQLFailure(f"run {given['run_name']!r} was not found")
        return run

    def upsert_bucket(self, given: dict[str, Any]) -> dict[str, Any]:
        """Make or change a run."""
        if given.get("id"):
            run, inserted = self.store.find(given["id"], Run), False
        else:
            name = given.get("model_name") or "uncategorized"
            project = self.store.project(name, given.get("entity_name"))
            if given["name"] in project.deleted:
                raise Conflict(DELETED.format(given["name"]))
            inserted = given["name"] not in project.runs_by_id
            run = project.runs_by_id.setdefault(given["name"], Run(project, given["name"]))
        if run.state == "pending" and not inserted:
            run.state = "running"  # the SDK takes it over: Api.create_run, wandb/apis/public/api.py
        run.upsert(given)
        if given.get("sweep"):
            run.join(project.sweeps[given["sweep"]])
        return {"bucket": run, "inserted": inserted}

    def update_run_state(self, given: dict[str, Any]) -> dict[str, Any]:
        """Queue a run anew, or give it up: ``Run.update_state``, wandb/apis/public/runs.py."""
        run = self.store.find(given["id"], Run)
        if run.state not in MAY_BECOME.get(given["state"], ()) or run.sweep:
            raise GraphQLFailure(f"a run that is {run.state} can't be {given['state']}")
        run.state = given["state"]
        return {"success": True}

    def notify_scriptable_run_alert(self, given: dict[str, Any]) -> dict[str, Any]:
        """Send an alert; wandb-core's mutation of that name."""
        self._run(given).alerts.append((given["title"], given["text"], given["severity"]))
        return {"success": True}

    def upsert_sweep(self, given: dict[str, Any]) -> dict[str, Any]:
        """Make a sweep: wandb/apis/public/sweeps.py, ``_upsert_sweep``."""
        project = self._project(given)
        sweep = Sweep(project, f"sweep{len(project.sweeps)}", given["config"])
        project.sweeps[sweep.name] = sweep
        return {"sweep": sweep, "configValidationWarnings": []}

    def create_agent(self, given: dict[str, Any]) -> dict[str, Any]:
        """Register a sweep's agent."""
        sweep = self._project(given).sweeps[given["sweep"]]
        return {"agent": Agent(sweep, given["host"])}

    def agent_heartbeat(self, given: dict[str, Any]) -> dict[str, Any]:
        """Tell an agent what to do next."""
        agent = self.store.find(given["id"], Agent)
        return {"agent": agent, "commands": agent.commands(json.loads(given["run_state"]))}

    def delete_run(self, given: dict[str, Any]) -> dict[str, Any]:
        """Delete a run, and on demand what it made: ``Run.delete``, wandb/apis/public/runs.py."""
        run = self.store.find(given["id"], Run)
        run.project.delete(run.name)
        for artifact in run.logged if given.get("delete_artifacts") else ():
            artifact.collection.delete(artifact)
        return {"clientMutationId": None}

    def delete_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """Delete a version: ``Artifact.delete``, wandb/sdk/artifacts/artifact.py."""
        artifact = self.store.find(given["artifact_id"], Artifact)
        if artifact.alias_names and not given.get("delete_aliases"):
            raise Refused(f"{artifact.name} has aliases: {', '.join(artifact.alias_names)}")
        artifact.collection.delete(artifact)
        return {"artifact": artifact}

    def create_run_files(self, given: dict[str, Any]) -> dict[str, Any]:
        """Say where a run's files may be uploaded."""
        run = self._run(given)
        run.file_names |= set(given["files"])
        files = [
            {"name": name, "uploadUrl": self.store.blob_url(run.blob_key(name))}
            for name in given["files"]
        ]
        return {"runID": run.id, "uploadHeaders": SIGNED, "files": files}

    def create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """Begin a version, or find the one that has this content already."""
        project = self._project(given)
        names = given.get("artifact_collection_names") or [given["artifact_collection_name"]]
        collection = project.collections.get(names[0])
        if collection is None:
            collection = Collection(project, names[0], given["artifact_type_name"])
            project.collections[names[0]] = collection
        run = self._run(given) if given.get("run_name") else None
        found = collection.with_digest(given["digest"])
        artifact = found or Artifact(collection, run, given)
        if found:
            wanted = [one["alias"] for one in given.get("aliases") or []]
            collection.point(["latest", *wanted], found)
        if run and artifact not in run.logged:
            run.logged.append(artifact)
        return {"artifact": artifact}

    def create_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        """Say where a manifest may be uploaded."""
        artifact = self.store.find(given["artifact_id"], Artifact)
        return {"artifactManifest": self._manifest(artifact)}

    def update_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        """The same for a manifest that has been announced before."""
        artifact = self.store.find(given["artifact_manifest_id"], Artifact)
        return {"artifactManifest": self._manifest(artifact)}

    def _manifest(self, artifact: Artifact) -> dict[str, Any]:
        url = self.store.blob_url(artifact.manifest_key)
        return {
            "id": artifact.id,
            "file": {"id": artifact.manifest_key, "uploadUrl": url, "uploadHeaders": SIGNED},
        }

    def create_artifact_files(self, given: dict[str, Any]) -> dict[str, Any]:
        """Say where files may be uploaded; those whose bytes are here need not be."""
        return {"files": connection(self._file(one) for one in given["artifact_files"])}

    def _file(self, given: Mapping[str, Any]) -> dict[str, Any]:
        key = hex_digest(given["md5"])
        born = self.store.births.setdefault(key, self.store.find(given["artifactID"], Artifact))
        wanted, parts = not self.store.has(key), given.get("uploadPartsInput")
        urls = None
        if wanted and parts:
            upload = self.store.uploads[key] = Upload.of(key, parts)
            urls = upload.urls(self.store.blob_url("parts"))
        return {
            "name": given["name"],
            "displayName": given["name"],
            "storagePath": key,
            "uploadUrl": self.store.blob_url(key) if wanted else None,
            "uploadHeaders": SIGNED,
            "uploadMultipartUrls": urls,
            "artifact": born,
        }

    def complete_multipart_upload_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """Join the parts of a file."""
        upload = self.store.uploads.get(given["upload_id"])
        if upload is None or upload.key != given["storage_path"]:
            raise GraphQLFailure(f"there is no upload {given['upload_id']}")
        if not upload.finish(given["completed_parts"]):
            raise GraphQLFailure(f"the parts of {upload.key} are not those that were taken")
        return {"digest": upload.key}

    def commit_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """Make a version that has all its files visible."""
        artifact = self.store.find(given["artifact_id"], Artifact)
        for path in artifact.manifest:
            if not self.store.has(artifact.blob_key(path)):
                raise GraphQLFailure(f"{path} of {artifact.id} has not been uploaded")
        if artifact.state == "PENDING":
            artifact.collection.append(artifact)
            artifact.collection.point(["latest", *artifact.wanted_aliases], artifact)
        return {"artifact": artifact}

    def use_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """Record that a run reads a version."""
        run = self._run(given)
        artifact = self.store.find(given["artifact_id"], Artifact)
        if artifact not in run.used:
            run.used.append(artifact)
            artifact.users.append(run)
        return {"artifact": artifact}

    def update_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """Change what is said about a version."""
        artifact = self.store.find(given["artifact_id"], Artifact)
        for key in ("description", "metadata"):
            if given.get(key) is not None:
                setattr(artifact, key, given[key])
        added = [tag["tagName"] for tag in given.get("tags_to_add") or []]
        removed = [tag["tagName"] for tag in given.get("tags_to_delete") or []]
        artifact.tag_names = [tag for tag in [*artifact.tag_names, *added] if tag not in removed]
        return {"artifact": artifact}

    def link_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """Link a version to a registry's collection."""
        registry = self.store.registries.get(given["project_name"])
        if registry is None or given["entity_name"] != registry.entity["name"]:
            raise Refused(f"project {given['project_name']} was not found")
        artifact = self.store.find(given["artifact_id"], Artifact)
        aliases = [one["alias"] for one in given.get("aliases") or []]
        link = registry.link(artifact, given["artifact_portfolio_name"], aliases)
        return {"versionIndex": link.version_index, "artifactMembership": link}

    def add_aliases(self, given: dict[str, Any]) -> dict[str, Any]:
        """Let names mean a version."""
        artifact = self.store.find(given["artifact_id"], Artifact)
        artifact.collection.point([one["alias"] for one in given["aliases"]], artifact)
        return {"success": True}

    def delete_aliases(self, given: dict[str, Any]) -> dict[str, Any]:
        """Take names from a version."""
        artifact = self.store.find(given["artifact_id"], Artifact)
        artifact.collection.unpoint([one["alias"] for one in given["aliases"]], artifact)
        return {"success": True}
