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
from wandb.plot.custom_chart import CustomChart
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

from pipeline.core import secrets, settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import content_digest
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
DIGEST = "sha256"  # in an artifact's metadata: our digest, as W&B keeps another one
LONGEST_ERROR, LONGEST_TAG, LONGEST_TITLE = 4000, 64, 63  # characters
REGISTRY = "wandb-registry-"  # begins the name of each registry as a project
LABELS = "experiment", "data_set", "model_name"  # of a run's config; they become its tags
# W&B's charts, and what a chart's columns are called there: wandb/plot/*.py
LINES, CONFUSION = "wandb/area-under-curve/v0", ("Actual", "Predicted", "nPredictions")


def find(project: str, reference: str) -> Artifact | None:
    """The exact version that a reference means now, or None."""
    found = stored_artifact(project, reference)
    if found is None:
        return None
    if DIGEST in found.metadata:
        return _described(found, found.metadata[DIGEST])
    with tempfile.TemporaryDirectory() as folder:  # it was logged by others
        return _described(found, _fetch(found, reference, Path(folder)))


def fetch(project: str, reference: str, into: Path) -> Artifact:
    """Bring a version's files into a folder, and let no run count as their reader."""
    found = stored_artifact(project, reference)
    if found is None:
        raise PipelineError(
            f"artifact {reference!r} was not found in W&B project {project!r} ({server()})",
            "check its name and version, or run the step that makes it",
        )
    return _described(found, _fetch(found, reference, into), into)


def default_entity() -> str:
    """The entity that runs and artifacts belong to where nobody names one."""
    return call_sdk("find the default entity", lambda: api().default_entity) or ""


def stored_artifact(project: str, reference: str) -> wandb.Artifact | None:
    """The version that a reference means now, as the server has it, or None."""

    def look() -> wandb.Artifact | None:
        try:
            found: wandb.Artifact = api().artifact(f"{project}/{reference}")
            return found
        except (wandb.Error, ValueError) as error:
            if _is_missing(error):
                return None
            raise

    return call_sdk(f"find artifact {reference!r}", look)


def set_alias(project: str, reference: str, alias: str) -> None:
    """Let an alias mean this version from now on; W&B takes it from the one that had it."""
    found = stored_artifact(project, reference)
    if found is None:
        raise PipelineError(
            f"there is no {reference!r} in W&B project {project!r} to be {alias!r}",
            "run the step that makes it, or register another version",
        )

    def save() -> None:
        found.aliases = sorted({*found.aliases, alias})
        found.save()

    call_sdk(f"set the alias {alias!r} of {reference!r}", save)


def link(project: str, reference: str, registry: str, collection: str, alias: str) -> None:
    """Link a version to a collection of a registry; the alias leaves the one that had it."""
    found = stored_artifact(project, reference)
    if found is None:
        raise PipelineError(
            f"there is no {reference!r} in W&B project {project!r} to link",
            "run the step that makes it, or register another version",
        )
    organization, _, name = registry.rpartition("/")
    target = "/".join([*filter(None, [organization]), f"{REGISTRY}{name}", collection])
    try:
        call_sdk(f"link {reference} to {target}", lambda: found.link(target, [alias]))
    except PipelineError as error:
        raise PipelineError(
            error.what,
            f"the registry {name!r} has to exist, and your role in it to be Member or more: "
            "docs/registry.md",
        ) from error


def stored_run(project: str, id: str) -> wandb.apis.public.Run | None:
    """The run with an id, as the server has it, or None."""

    def look() -> wandb.apis.public.Run | None:
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
    """Make a run with an id, before the SDK does, which would repeat a refusal for a while.

    Raises:
        DeletedError: a run with that id was deleted.
    """
    call_sdk(f"make run {id!r}", lambda: api().create_run(run_id=id, project=project))


class WandbRun(TrackerRun):
    """A run in W&B.

    A group and an id can be given for a run that was recorded elsewhere and is copied; a run that
    has this id already is taken up again. So can the id of a run that a sweep's agent has begun.

    Attributes:
        first_step: how many times something has been logged to it before.
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
        given: dict[str, Any] = {
            "project": project,
            "job_type": job_type,
            "name": name,
            "config": dict(config),
        }
        given |= {"group": group or settings.experiment()}
        if commit := config.get("git_commit"):
            # All that W&B is told of git: it would search the folder that the step runs in.
            git = {"git_commit": commit, "git_remote_url": origin.repository(settings.ROOT) or None}
            given["settings"] = wandb.Settings(**git)
        if sweep:
            given["settings"] = given.get("settings", wandb.Settings())
            given["settings"].sweep_id = sweep
        if labels := [str(config[label])[:LONGEST_TAG] for label in LABELS if config.get(label)]:
            tags = [*os.environ.get("WANDB_TAGS", "").split(","), *labels]
            given["tags"] = [*dict.fromkeys(tag for tag in tags if tag)]
        if id is not None:
            given |= {"id": id, "resume": "allow"}
        try:
            call_sdk("start a run", lambda: self._begin(given), linger=KILLED_WAIT / 2)
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

    def _begin(self, given: Mapping[str, Any]) -> None:
        self._run = _start_run(given)

    def use_artifact(self, reference: str, into: Path) -> Artifact:
        artifact = call_sdk(f"read artifact {reference!r}", lambda: self._find(reference))
        return _described(artifact, _fetch(artifact, reference, into), into)

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
        named = ["latest", *aliases]
        record = functools.partial(self._run.log_artifact, aliases=named)
        return self._store(record, path, name, type, description, metadata or {})

    def use_new(
        self, path: Path, name: str, type: str, description: str, metadata: Mapping[str, Any]
    ) -> Artifact:
        """Record a file or a folder that no run has made as an input."""
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
            # Nobody changes the files before they are stored, so they need not be copied first.
            add(str(path), policy="immutable", skip_cache=True)
            return record(artifact).wait()

        size = sum(file.stat().st_size for file in files)
        logged = call_sdk(f"log artifact {name!r}", log, size)
        return Artifact(name, logged.version, digest, type, metadata)

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        # The SDK makes the last value of each name the run's summary.
        what = f"log {', '.join([*values][:3])}"
        call_sdk(what, lambda: self._run.log(self.loggable(values), step=step))

    def update(self, summary: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        def change() -> None:
            self._run.summary.update(dict(summary))
            self._run.config.update(dict(config), allow_val_change=True)

        call_sdk("update the run", change)

    def image(self, path: Path) -> wandb.Image:
        return wandb.Image(str(path))

    def table(self, frame: "pd.DataFrame") -> wandb.Table:
        # To W&B a column of text with gaps is of mixed types.
        return wandb.Table(dataframe=frame, allow_mixed_types=True)

    def html(self, path: Path) -> wandb.Html:
        return wandb.Html(path.read_text(encoding="utf-8"), inject=False)

    def chart(self, name: str, chart: Chart) -> CustomChart:
        # As wandb.plot.roc_curve, pr_curve and confusion_matrix do it, with what is known already.
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
        shown = secrets.shown(text)[:LONGEST_ERROR]
        call_sdk(
            "send an alert", lambda: self._run.alert(title[:LONGEST_TITLE], shown, level="ERROR")
        )

    def finish(self, failed: bool = False, error: BaseException | None = None) -> None:
        limit, code = settings.tracker_timeout(), _exit_code(failed, error)
        # A run that has failed, perhaps because the server is away, is not waited for long.
        limits = {0: limit, 1: limit / 5, KILLED: min(KILLED_WAIT, limit)}
        try:
            end = functools.partial(self._end, code, error)
            call_sdk("store the run", end, limit=limits[code], linger=KILLED_WAIT)
        except KeyboardInterrupt:
            abandon(KILLED)
            raise
        except PipelineError as trouble:
            abandon(code)
            if not failed:
                raise
            # What made the step fail is what its user must see.
            say(f"warning: {trouble.what}", file=sys.stderr)

    def _end(self, code: int, error: BaseException | None) -> None:
        if code == 1 and error is not None:
            self._run.notes = self._run.summary["error"] = _told(error)
        self._run.finish(exit_code=code)
        if code == 0:
            self._await_end()
        close(code)

    def _await_end(self) -> None:
        """Wait until the server knows that the run has ended.

        When the server refuses the stream of metrics, the SDK drops it without an error.
        """
        deadline = time.monotonic() + 0.8 * settings.tracker_timeout()
        found = api().run(self._run.path)
        _remove_folder(found)
        while found.state in ("running", "pending"):
            if time.monotonic() > deadline:
                raise TimeoutError("the server has not taken all of it")
            time.sleep(0.5)  # the server tells nobody; it has to be asked
            found.load(force=True)


def _exit_code(failed: bool, error: BaseException | None) -> int:
    """The exit code by which W&B knows whether a run is finished, failed or killed."""
    return KILLED if isinstance(error, KeyboardInterrupt) else int(failed)


def _told(error: BaseException) -> str:
    """An error for the run's page, as the user is told it."""
    known = isinstance(error, PipelineError)
    text = str(error if known else f"{type(error).__name__}: {error}")
    shown: str = secrets.shown(text)
    return shown[:LONGEST_ERROR]


def _remove_folder(run: wandb.apis.public.Run) -> None:
    """Remove the folder that the SDK has made for a run's files, which nobody downloads."""
    with contextlib.suppress(OSError):
        os.removedirs(run.dir)


def _is_missing(error: Exception) -> bool:
    """Whether the SDK means that there is no such project, artifact or alias."""
    return "not found" in str(error)


def _described(artifact: wandb.Artifact, digest: str, path: Path | None = None) -> Artifact:
    """An artifact of W&B's as one of ours."""
    metadata = {key: value for key, value in artifact.metadata.items() if key != DIGEST}
    name = artifact.name.partition(":")[0]
    return Artifact(name, artifact.version, digest, artifact.type, metadata, path)


def _fetch(artifact: wandb.Artifact, reference: str, into: Path) -> str:
    """Bring an artifact's files, each compared with the manifest; the digest of them all."""
    into.mkdir(parents=True, exist_ok=True)
    call_sdk(f"read artifact {reference!r}", lambda: _download(artifact, into), artifact.size)
    return content_digest(into)


def _download(artifact: wandb.Artifact, into: Path) -> None:
    """Fetch the files one by one.

    The SDK's own call for all of them has threads that outlive any limit, and compares nothing.
    """
    for name in artifact.manifest.entries:
        entry = artifact.get_entry(name)
        _verify(artifact.name, entry, Path(entry.download(str(into), skip_cache=True)))


def _verify(artifact: str, entry: ArtifactManifestEntry, path: Path) -> None:
    """Compare a file with its entry in the manifest; one elsewhere (``s3://``) has no digest.

    Raises:
        PipelineError: its bytes are others.
    """
    if entry.ref is not None:
        return
    expected = base64.b64decode(entry.digest).hex()
    with path.open("rb") as file:
        found = hashlib.file_digest(file, HASHES[entry.digest_algorithm().name]).hexdigest()
    if found != expected:
        raise PipelineError(
            f"artifact {artifact!r} is damaged: {entry.path} should have digest {expected[:12]} "
            f"and has {found[:12]} ({server()})",
            "run the step that made it again (main.force=true)",
        )


def _start_run(given: Mapping[str, Any]) -> wandb.Run:
    """``wandb.init``, with a reason when it fails."""
    prepare()
    try:
        return wandb.init(reinit="finish_previous", **given)
    except wandb.Error as error:
        if "no message" in str(error):  # what the SDK says when the server refuses the key
            wandb.Api()  # asks for the user, and says why that is not answered
        raise
