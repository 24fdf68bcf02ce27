"""W&B as a tracker: the cloud, or the server that ``WANDB_BASE_URL`` names."""
# ruff: noqa: D102 - TrackerRun, which this implements, describes the methods

import base64
import contextlib
import functools
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wandb
import xxhash
from wandb.apis.public import Run as StoredRun
from wandb.plot.custom_chart import CustomChart
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import content_digest
from pipeline.core.security import secrets
from pipeline.core.text import say
from pipeline.provenance import origin
from pipeline.tracking.interface import Artifact, Chart, TrackerRun
from pipeline.tracking.wandb.sdk import (
    KILLED,
    KILLED_WAIT,
    abandon,
    api,
    call_sdk,
    close,
    prepare,
    server,
)

if TYPE_CHECKING:
    import pandas as pd

HASHES: dict[str, Callable[[], Any]] = {
    "MANIFEST_MD5": hashlib.md5,
    "MANIFEST_XXH128": xxhash.xxh128,
}
DIGEST = "sha256"  # key of our digest in an artifact's metadata; W&B's own digest differs
LONGEST_ERROR, LONGEST_TAG, LONGEST_TITLE = 4000, 64, 63  # characters
REGISTRY = "wandb-registry-"  # prefix of a registry's project name
LABELS = "experiment", "data_set", "model_name"  # keys of a run's config whose values become tags
# W&B's chart presets and the names of their columns, from wandb/plot/*.py
LINES, CONFUSION = "wandb/area-under-curve/v0", ("Actual", "Predicted", "nPredictions")


def find(project: str, reference: str) -> Artifact | None:
    """Resolve a reference to an exact version; None if there is none."""
    artifact = stored_artifact(project, reference)
    if artifact is None:
        return None
    if DIGEST in artifact.metadata:
        return _as_artifact(artifact, artifact.metadata[DIGEST])
    with tempfile.TemporaryDirectory() as folder:  # logged without our digest
        return _as_artifact(artifact, _fetch(artifact, reference, Path(folder)))


def fetch(project: str, reference: str, into: Path) -> Artifact:
    """Fetch a version's files into a folder, outside of any run.

    Raises:
        PipelineError: the version does not exist, or a file is damaged.
    """
    artifact = stored_artifact(project, reference)
    if artifact is None:
        raise PipelineError(
            f"artifact {reference!r} was not found in W&B project {project!r} ({server()})",
            "check its name and version, or run the step that makes it",
        )
    return _as_artifact(artifact, _fetch(artifact, reference, into), into)


def default_entity() -> str:
    """The entity that the API key uses by default."""
    return call_sdk("find the default entity", lambda: api().default_entity) or ""


def stored_artifact(project: str, reference: str) -> wandb.Artifact | None:
    """The artifact version that a reference resolves to on the server, or None."""

    def look() -> wandb.Artifact | None:
        try:
            artifact: wandb.Artifact = api().artifact(f"{project}/{reference}")
            return artifact
        except (wandb.Error, ValueError) as error:
            if _is_missing(error):
                return None
            raise

    return call_sdk(f"find artifact {reference!r}", look)


def set_alias(project: str, reference: str, alias: str) -> None:
    """Move an alias to this version.

    Raises:
        PipelineError: there is no such version.
    """
    artifact = stored_artifact(project, reference)
    if artifact is None:
        raise PipelineError(
            f"the alias {alias!r} can't be set: there is no {reference!r} in W&B project "
            f"{project!r}",
            "run the step that makes it, or register another version",
        )

    def save() -> None:
        artifact.aliases = sorted({*artifact.aliases, alias})
        artifact.save()

    call_sdk(f"set the alias {alias!r} of {reference!r}", save)


def link(project: str, reference: str, registry: str, collection: str, alias: str) -> None:
    """Link a version to a collection of a registry, and move the alias to it there.

    Raises:
        PipelineError: there is no such version, or W&B refuses the link.
    """
    artifact = stored_artifact(project, reference)
    if artifact is None:
        raise PipelineError(
            f"there is no {reference!r} in W&B project {project!r} to link",
            "run the step that makes it, or register another version",
        )
    organization, _, name = registry.rpartition("/")
    target = "/".join([*filter(None, [organization]), f"{REGISTRY}{name}", collection])
    try:
        call_sdk(f"link {reference} to {target}", lambda: artifact.link(target, [alias]))
    except PipelineError as error:
        raise PipelineError(
            error.what,
            f"the registry {name!r} has to exist, and your role in it to be Member or more: "
            "docs/registry.md",
        ) from error


def stored_run(project: str, id: str) -> StoredRun | None:
    """The run with an id on the server, or None."""

    def look() -> StoredRun | None:
        try:
            runs = [*api().runs(project, {"name": id}, lazy=False)]
        except (wandb.Error, ValueError) as error:
            if "Could not find project" in str(error):
                return None
            raise
        for run in runs:
            _remove_folder(run)
        return runs[0] if runs else None

    return call_sdk(f"find run {id!r}", look)


def claim(project: str, id: str) -> None:
    """Create a run with an id ahead of ``wandb.init``, which would retry a refusal for a while.

    Raises:
        DeletedError: a run with that id was deleted.
    """
    call_sdk(f"make run {id!r}", lambda: api().create_run(run_id=id, project=project))


class WandbRun(TrackerRun):
    """A run in W&B.

    An id resumes the run that has this id already, such as the copy of a run from Trackio or a run
    that a sweep agent has started.

    Attributes:
        first_step: the number of steps logged to the run before it was resumed.
    """

    kind = "wandb"

    def __init__(
        self,
        *,
        project: str,
        job_type: str,
        name: str,
        config: Mapping[str, Any],
        group: str | None = None,
        id: str | None = None,
        sweep: str = "",
    ):
        options: dict[str, Any] = {
            "project": project,
            "job_type": job_type,
            "name": name,
            "config": dict(config),
        }
        options |= {"group": group or settings.experiment()}
        if commit := config.get("git_commit"):
            # Set explicitly, because W&B would look for git in the folder that the step runs in.
            git = {"git_commit": commit, "git_remote_url": origin.repository(settings.ROOT) or None}
            options["settings"] = wandb.Settings(**git)
        if sweep:
            options["settings"] = options.get("settings", wandb.Settings())
            options["settings"].sweep_id = sweep
        if labels := [str(config[label])[:LONGEST_TAG] for label in LABELS if config.get(label)]:
            tags = [*os.environ.get("WANDB_TAGS", "").split(","), *labels]
            options["tags"] = [*dict.fromkeys(tag for tag in tags if tag)]
        if id is not None:
            options |= {"id": id, "resume": "allow"}
        try:
            call_sdk("start a run", lambda: self._start(options), grace=KILLED_WAIT / 2)
        except KeyboardInterrupt as error:
            if "_run" in self.__dict__:
                self.finish(failed=True, error=error)
            abandon(KILLED)
            raise
        except PipelineError:
            abandon(1)
            raise
        self.id, self.url = self._run.id, self._run.url
        self.first_step = self._run.starting_step

    def _start(self, options: Mapping[str, Any]) -> None:
        self._run = _start_run(options)

    def use_artifact(self, reference: str, into: Path) -> Artifact:
        artifact = call_sdk(f"read artifact {reference!r}", lambda: self._find(reference))
        return _as_artifact(artifact, _fetch(artifact, reference, into), into)

    def use_unread(self, reference: str) -> None:
        call_sdk(f"use artifact {reference!r}", lambda: self._find(reference))

    def _find(self, reference: str) -> wandb.Artifact:
        try:
            return self._run.use_artifact(reference)
        except (wandb.Error, ValueError) as error:
            if not _is_missing(error):
                raise
            raise PipelineError(
                f"artifact {reference!r} was not found in W&B project "
                f"{self._run.entity}/{self._run.project} ({server()})",
                "check its name and version, or run the step that makes it",
            ) from error

    def log_artifact(
        self,
        path: Path,
        name: str,
        type: str,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> Artifact:
        all_aliases = ["latest", *aliases]
        record = functools.partial(self._run.log_artifact, aliases=all_aliases)
        return self._store(record, path, name, type, description, metadata or {})

    def use_new(
        self, path: Path, name: str, type: str, description: str, metadata: Mapping[str, Any]
    ) -> Artifact:
        """Record a file or a folder as an input that no run in W&B has made."""
        return self._store(self._run.use_artifact, path, name, type, description, metadata)

    def _store(
        self,
        record: Callable[[wandb.Artifact], wandb.Artifact],
        path: Path,
        name: str,
        type: str,
        description: str,
        metadata: Mapping[str, Any],
    ) -> Artifact:
        digest = content_digest(path)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]

        def log() -> wandb.Artifact:
            artifact = wandb.Artifact(
                name, type=type, description=description, metadata={**metadata, DIGEST: digest}
            )
            add = artifact.add_file if path.is_file() else artifact.add_dir
            # The files do not change before they are stored, so the SDK need not copy them.
            add(str(path), policy="immutable", skip_cache=True)
            return record(artifact).wait()

        size = sum(file.stat().st_size for file in files)
        logged = call_sdk(f"log artifact {name!r}", log, size)
        return Artifact(name, logged.version, digest, type, metadata)

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        # The SDK updates the run's summary with the last value of each name.
        action = f"log {', '.join([*values][:3])}"
        call_sdk(action, lambda: self._run.log(self.loggable(values), step=step))

    def update(self, summary: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        def change() -> None:
            self._run.summary.update(dict(summary))
            self._run.config.update(dict(config), allow_val_change=True)

        call_sdk("update the run", change)

    def image(self, path: Path) -> wandb.Image:
        return wandb.Image(str(path))

    def table(self, frame: "pd.DataFrame") -> wandb.Table:
        # W&B sees a text column with missing values as one of mixed types.
        return wandb.Table(dataframe=frame, allow_mixed_types=True)

    def html(self, path: Path) -> wandb.Html:
        return wandb.Html(path.read_text(encoding="utf-8"), inject=False)

    def chart(self, name: str, chart: Chart) -> CustomChart:
        # Same charts as wandb.plot.roc_curve, pr_curve and confusion_matrix, from computed values.
        table = chart.table.astype(dict.fromkeys(chart.table.columns[:1], str))
        if chart.is_confusion:
            names = dict(zip(CONFUSION, table.columns, strict=True))
            return wandb.plot_table("wandb/confusion_matrix/v1", self.table(table), names)
        _, x, y = table.columns
        fields = {"class": "class", "x": x, "y": y}
        titles = {"title": name, "x-axis-title": x, "y-axis-title": y}
        return wandb.plot_table(LINES, self.table(table), fields, titles)

    def bars(self, name: str, values: "pd.Series") -> CustomChart:
        rows = [[str(label), float(value)] for label, value in values.items()]
        table = wandb.Table(columns=["label", str(values.name)], data=rows)
        return wandb.plot.bar(table, "label", str(values.name), title=name)

    def alert(self, title: str, text: str) -> None:
        message = secrets.for_display(text)[:LONGEST_ERROR]
        call_sdk(
            "send an alert", lambda: self._run.alert(title[:LONGEST_TITLE], message, level="ERROR")
        )

    def finish(self, failed: bool = False, error: BaseException | None = None) -> None:
        limit, code = settings.tracker_timeout(), _exit_code(failed, error)
        # Wait less for a failed run: an unreachable server may be the cause of the failure.
        limits = {0: limit, 1: limit / 5, KILLED: min(KILLED_WAIT, limit)}
        try:
            end = functools.partial(self._end, code, error)
            call_sdk("store the run", end, limit=limits[code], grace=KILLED_WAIT)
        except KeyboardInterrupt:
            abandon(KILLED)
            raise
        except PipelineError as problem:
            abandon(code)
            if not failed:
                raise
            # Only warn, so that the user sees the error that made the step fail.
            say(f"warning: {problem.what}", file=sys.stderr)

    def _end(self, code: int, error: BaseException | None) -> None:
        if code == 1 and error is not None:
            self._run.notes = self._run.summary["error"] = _message(error)
        self._run.finish(exit_code=code)
        if code == 0:
            self._await_end()
        close(code)

    def _await_end(self) -> None:
        """Wait until the server has the run's final state.

        The SDK drops metrics without an error if the server refuses them.
        """
        deadline = time.monotonic() + 0.8 * settings.tracker_timeout()
        stored = api().run(self._run.path)
        _remove_folder(stored)
        while stored.state in ("running", "pending"):
            if time.monotonic() > deadline:
                raise TimeoutError("the server has not stored all of it")
            time.sleep(0.5)  # the server sends no event, so poll
            stored.load(force=True)


def _exit_code(failed: bool, error: BaseException | None) -> int:
    """The exit code that tells W&B whether a run is finished, failed or killed."""
    return KILLED if isinstance(error, KeyboardInterrupt) else int(failed)


def _message(error: BaseException) -> str:
    """An error's message for the run's page, without secrets."""
    is_ours = isinstance(error, PipelineError)
    text = str(error if is_ours else f"{type(error).__name__}: {error}")
    message: str = secrets.for_display(text)
    return message[:LONGEST_ERROR]


def _remove_folder(run: StoredRun) -> None:
    """Remove the empty folder that the SDK makes to download a run's files."""
    with contextlib.suppress(OSError):
        os.removedirs(run.dir)


def _is_missing(error: Exception) -> bool:
    """Whether an error of the SDK means that there is no such project, artifact or alias."""
    return "not found" in str(error)


def _as_artifact(artifact: wandb.Artifact, digest: str, path: Path | None = None) -> Artifact:
    """Convert a W&B artifact to an :class:`Artifact`."""
    metadata = {key: value for key, value in artifact.metadata.items() if key != DIGEST}
    name = artifact.name.partition(":")[0]
    return Artifact(name, artifact.version, digest, artifact.type, metadata, path)


def _fetch(artifact: wandb.Artifact, reference: str, into: Path) -> str:
    """Download an artifact's files and check them; return the digest of their content."""
    into.mkdir(parents=True, exist_ok=True)
    call_sdk(f"read artifact {reference!r}", lambda: _download(artifact, into), artifact.size)
    return content_digest(into)


def _download(artifact: wandb.Artifact, into: Path) -> None:
    """Download the files one by one.

    ``Artifact.download`` checks no digests, and its threads outlive our time limit.
    """
    for name in artifact.manifest.entries:
        entry = artifact.get_entry(name)
        _verify(artifact.name, entry, Path(entry.download(str(into), skip_cache=True)))


def _verify(artifact: str, entry: ArtifactManifestEntry, path: Path) -> None:
    """Compare a file with its digest in the manifest; a reference (``s3://``) has none.

    Raises:
        PipelineError: the digests differ.
    """
    if entry.ref is not None:
        return
    expected = base64.b64decode(entry.digest).hex()
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, HASHES[entry.digest_algorithm().name]).hexdigest()
    if actual != expected:
        raise PipelineError(
            f"artifact {artifact!r} is damaged: {entry.path} should have digest {expected[:12]} "
            f"and has {actual[:12]} ({server()})",
            "run the step that made it again (main.force=true)",
        )


def _start_run(options: Mapping[str, Any]) -> wandb.Run:
    """Call ``wandb.init``, and raise an error with a reason if it fails without one."""
    prepare()
    try:
        return wandb.init(reinit="finish_previous", **options)
    except wandb.Error as error:
        if "no message" in str(error):  # the SDK's error if the server refuses the key
            wandb.Api()  # requests the user, and raises the server's reason
        raise
