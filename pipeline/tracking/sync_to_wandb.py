"""Copies a run of the pipeline from Trackio to W&B, with its steps' runs, artifacts and lineage.

A run keeps its id, and versions are matched by content, so a copy can be repeated: complete runs
are skipped, and an interrupted copy is completed. Version numbers may differ in W&B.
"""

import contextlib
import functools
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import wandb
from filelock import FileLock
from wandb.apis.public import Run as StoredRun

from pipeline.core import settings
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.files import file_digest
from pipeline.tracking.choice import choose, wandb_credentials
from pipeline.tracking.interface import RUN_OF, Artifact, Chart
from pipeline.tracking.trackio.lineage import RecordedRun, Row, Version, recorded_runs
from pipeline.tracking.wandb.runs import DIGEST, WandbRun, claim, stored_artifact, stored_run
from pipeline.tracking.wandb.sdk import DeletedError, api, call_sdk, close

VERSION, CREATED = "trackio_version", "trackio_created"  # in the metadata of a copy

RECOPIED = "-again"  # with a number, the suffix of the new id of a run that was deleted in W&B


def sync(run_id: str, new_ids: bool = False) -> Iterator[tuple[str, str]]:
    """Copy a run of the pipeline to W&B.

    Args:
        run_id: the pipeline's run.
        new_ids: give a run that was deleted in W&B another id there.

    Yields:
        The name and the address of each of its runs, once that is copied.

    Raises:
        PipelineError: the run does not exist, its files are damaged, or W&B refuses a record.
    """
    summary = _summary(run_id)
    _require_login()
    runs = recorded_runs(summary.get("project") or settings.project(), run_id, summary)
    problems = dict.fromkeys(problem for run in runs for problem in run.problems())
    if problems:
        raise PipelineError(
            f"run {run_id} can't be copied whole:\n" + "\n".join(problems),
            "restore them: run the pipeline again with the same settings, and repeat this",
        )
    copies: dict[str, str] = {}
    urls: dict[str, str] = {}
    with FileLock(settings.state_dir() / "sync-to-wandb.lock"):
        for index, source in enumerate(runs):
            run = _with_links(source, urls)
            try:
                url = _copy_with_new_ids(run, copies) if new_ids else _copy_run(run, copies)
            except DeletedError as error:
                raise PipelineError(
                    f"{run.name} (run {run.id}) was deleted in W&B, and its id can't be reused",
                    f"copy it under another id: sync-to-wandb --run {run_id} --new-ids",
                ) from error
            except PipelineError as error:
                raise PipelineError(
                    f"{run.name} ({index + 1} of {len(runs)}) was not copied: {error.what}",
                    f"{error.remedy}\nrepeat this to copy the remaining runs",
                ) from error
            urls[run.id] = url
            yield run.name, url
    close()


def _with_links(run: RecordedRun, urls: Mapping[str, str]) -> RecordedRun:
    """Replace the ids of steps' runs in a run's summary by their addresses in W&B.

    Args:
        run: the run.
        urls: the addresses of copied runs, by their ids in Trackio.
    """

    def replaced(name: str, value: Any) -> Any:
        return urls.get(value, value) if name.startswith(RUN_OF) else value

    rows = [
        replace(row, content={name: replaced(name, value) for name, value in row.content.items()})
        if row.kind == "summary"
        else row
        for row in run.rows
    ]
    return replace(run, rows=rows)


def _summary(run_id: str) -> dict[str, Any]:
    """The ``summary.json`` of a run that was recorded in Trackio.

    Raises:
        PipelineError: the run has none, or was recorded in W&B.
    """
    folder = settings.state_dir() / "runs"
    files = folder.glob("**/summary.json")  # a trial's folder is in its sweep's folder
    paths = {"-".join(path.parent.relative_to(folder).parts): path for path in files}
    if run_id not in paths:
        raise _unknown(run_id, folder, paths)
    summary: dict[str, Any] = json.loads(paths[run_id].read_text(encoding="utf-8"))
    if summary["tracker"] == "wandb":
        urls = [step["tracker_url"] for step in summary["steps"].values() if step["tracker_url"]]
        raise PipelineError(f"run {run_id} was recorded in W&B already", "\n".join(urls))
    return summary


def _unknown(run_id: str, folder: Path, run_ids: Iterable[str]) -> PipelineError:
    """The error for a run without a summary."""
    if not run_id or not (folder / run_id).is_dir():
        return PipelineError(
            f"there is no run {run_id!r}{did_you_mean(run_id, run_ids)}",
            f"the runs are the folders in {folder}",
        )
    trials = sorted(name for name in run_ids if name.startswith(f"{run_id}-"))
    if trials:
        return PipelineError(f"{run_id} is a sweep", f"copy its trials: {', '.join(trials)}")
    return PipelineError(
        f"run {run_id} has no summary: it is under way, or was killed",
        "wait for it; or run the pipeline again, which reuses finished steps, and copy that run",
    )


def _require_login() -> None:
    if not wandb_credentials():
        raise PipelineError(
            "no W&B key was found (WANDB_API_KEY, or a .netrc entry)",
            "run `wandb login`, and repeat this",
        )
    choose("wandb")  # refuses W&B's offline modes


def _copy_with_new_ids(run: RecordedRun, copies: dict[str, str]) -> str:
    """Copy a run under the first id that was not deleted in W&B; return its address."""
    for number in itertools.count(2):
        try:
            return _copy_run(run, copies)
        except DeletedError:
            run = replace(run, id=f"{_first_id(run)}{RECOPIED}{number}")
    raise AssertionError  # unreachable: the loop has no end


def _copy_run(run: RecordedRun, copies: dict[str, str]) -> str:
    """Copy a run, or the missing parts of an earlier copy; return its address in W&B.

    Args:
        run: the run.
        copies: W&B's version for each version in Trackio; this run's versions are added.

    Raises:
        PipelineError: W&B did not store all of the run.
    """
    copy = stored_run(run.project, run.id)
    if copy is not None:
        copies |= call_sdk(f"read run {run.name!r}", functools.partial(_copies_of, run, copy))
    missing = _missing_records(run, copy, copies) if copy else []
    if copy is None or copy.state != ("failed" if run.failed else "finished") or missing:
        if copy is None:
            claim(run.project, run.id)
        _copy(run, copies, missing)
        copy = stored_run(run.project, run.id)
        missing = _missing_records(run, copy, copies) if copy else ["the run"]
        if copy is None or missing:
            raise PipelineError(f"W&B did not store {', '.join(missing)}", "see the server's log")
    for version in run.outputs:
        _place_aliases(run.project, version, copies[version.reference])
    return copy.url


# --- Compare with W&B -------------------------------------------------------------------------


def _copies_of(run: RecordedRun, copy: StoredRun) -> dict[str, str]:
    """W&B's versions of a run's inputs and outputs, matched by name and digest."""
    stored = {
        (artifact.name.partition(":")[0], artifact.metadata.get(DIGEST)): artifact.name
        for artifact in [*copy.used_artifacts(), *copy.logged_artifacts()]
    }
    versions = {version.reference: version for version in run.inputs + run.outputs}
    copies = {key: stored.get((version.name, version.digest)) for key, version in versions.items()}
    return {key: name for key, name in copies.items() if name}


def _missing_records(run: RecordedRun, copy: StoredRun, copies: Mapping[str, str]) -> list[str]:
    """The outputs, inputs, logged values and summary values that a run's copy in W&B lacks."""

    def list_missing() -> list[str]:
        logged = {artifact.name for artifact in copy.logged_artifacts()}
        used = {artifact.name for artifact in copy.used_artifacts()}
        readable = {*copy.summary.keys()} - _lost_files(copy)
        outputs = [version.reference for version in run.outputs]
        inputs = [version.reference for version in run.inputs]
        summaries = [row.content for row in run.rows if row.kind == "summary"]
        names = {name for row in run.rows if row.kind != "summary" for name in row.content}
        return [
            *(name for name in outputs if copies.get(name) not in logged),
            *(name for name in inputs if copies.get(name) not in used),
            # W&B stores a chart under the name of its table.
            *(name for name in sorted(names) if not {name, f"{name}_table"} & readable),
            *(name for row in summaries for name in row if copy.summary.get(name) != row[name]),
        ]

    return call_sdk(f"read run {run.name!r}", list_missing)


def _lost_files(copy: StoredRun) -> set[str]:
    """The figures and tables whose files in W&B are missing or damaged.

    The SDK drops a file without an error if the server refuses it.
    """
    lost = set()
    with tempfile.TemporaryDirectory() as folder:
        for name, value in copy.summary.items():
            if not (hasattr(value, "keys") and {"path", "sha256"} <= {*value.keys()}):
                continue
            try:
                with copy.file(value["path"]).download(folder, replace=True) as file:
                    is_intact = file_digest(Path(file.name)) == value["sha256"]
            except wandb.Error:
                is_intact = False
            if not is_intact:
                lost.add(name)
    return lost


# --- Write to W&B -----------------------------------------------------------------------------


def _copy(run: RecordedRun, copies: dict[str, str], missing: Iterable[str]) -> None:
    """Write a run to W&B, or the missing parts of an earlier copy."""
    target = WandbRun(
        project=run.project,
        job_type=run.config.get("job_type") or run.name,
        name=run.name,
        config=_config(run),
        group=run.config.get("_Group"),
        id=run.id,
    )
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(target.finish, failed=True)
        for version in run.inputs:
            if version.reference in copies:
                target.use_unread(copies[version.reference])
            else:  # the run that made it is gone from Trackio
                copies[version.reference] = _store(run.project, target.use_new, version)
        for version in run.outputs:
            copies[version.reference] = _store(run.project, target.log_artifact, version)
        # An earlier copy has the first rows, but files of some of these rows may be lost.
        unreadable = [row for row in run.rows[: target.first_step] if {*row.content} & {*missing}]
        for row in run.rows[target.first_step :] + unreadable:
            _log(target, row)
        on_failure.pop_all()
    target.finish(failed=run.failed)


def _config(run: RecordedRun) -> dict[str, Any]:
    """A run's config without Trackio's own keys, with its id and time in Trackio."""
    config = {k: v for k, v in run.config.items() if not k.startswith("_") and k != "job_type"}
    return {**config, "trackio_run": _first_id(run), CREATED: run.config.get("_Created")}


def _first_id(run: RecordedRun) -> str:
    """A run's id in Trackio."""
    return run.id.partition(RECOPIED)[0]


def _log(target: WandbRun, row: Row) -> None:
    """Log a row of a Trackio run to its copy."""
    if row.kind == "summary":
        target.update(row.content, {})
    elif row.kind == "values":
        target.log({**row.content, "_timestamp": row.time})
    elif row.kind == "figures":
        target.log(row.content)
    else:
        [(name, rows)] = row.content.items()
        target.log({name: _table(pd.DataFrame(rows))})


def _table(table: pd.DataFrame) -> pd.DataFrame | pd.Series | Chart:
    """A table as logged; Trackio stores charts and bar charts as tables."""
    if chart := Chart.of(table):
        return chart
    columns = [*table.columns]
    if columns[:1] == ["label"] and [*table.select_dtypes("number").columns] == columns[1:2]:
        return table.set_index("label")[columns[1]]
    return table


def _store(project: str, record: Callable[..., Artifact], version: Version) -> str:
    """Store a version in W&B.

    Args:
        project: the project in W&B.
        record: the method of the target run that stores an input or an output.
        version: the version in Trackio.

    Returns:
        The version's reference in W&B.

    Raises:
        PipelineError: the files changed while they were copied.
    """
    latest = stored_artifact(project, f"{version.name}:latest")
    metadata = {**version.metadata, VERSION: version.number, CREATED: version.created}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in version.blobs.items():
            link = Path(folder, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.absolute())
        stored = record(Path(folder), version.name, version.type, version.description, metadata)
    if stored.digest != version.digest:
        raise PipelineError(
            f"{version.reference} was changed on disk while it was copied",
            "change no files in Trackio's store, and repeat this",
        )
    call_sdk(
        f"place 'latest' of {version.name!r}", lambda: _restore_latest(project, version, latest)
    )
    return stored.reference


def _restore_latest(project: str, version: Version, previous: wandb.Artifact | None) -> None:
    """Move ``latest`` back to the newest version: copying an older version has moved the alias.

    If ``latest`` was on a version that was logged to W&B directly, it returns to that version.
    """
    versions = [*api().artifacts(version.type, f"{project}/{version.name}")]
    if previous is not None and VERSION not in previous.metadata:
        newest = next(entry for entry in versions if entry.version == previous.version)
    else:
        newest = max(versions, key=_created)
    if "latest" not in newest.aliases:
        newest.aliases.append("latest")
        newest.save()


def _created(artifact: wandb.Artifact) -> datetime:
    """When a version was made; for a copy, when it was made in Trackio."""
    created = datetime.fromisoformat(artifact.metadata.get(CREATED) or artifact.created_at)
    return created if created.tzinfo else created.replace(tzinfo=UTC)


def _place_aliases(project: str, version: Version, reference: str) -> None:
    """Copy a version's aliases to W&B; an alias that is on another version there stays."""
    for alias in sorted({*version.aliases} - {"latest"}):
        holder = stored_artifact(project, f"{version.name}:{alias}")
        if holder is None:
            add = functools.partial(_add, project, reference, alias)
            call_sdk(f"give {reference} the alias {alias!r}", add)
        elif (current := f"{version.name}:{holder.version}") != reference:
            print(
                f"warning: in W&B the alias {alias!r} stays on {current}; in Trackio it is on "
                f"{version.reference}, which is {reference} there",
                file=sys.stderr,
            )


def _add(project: str, reference: str, alias: str) -> None:
    artifact = api().artifact(f"{project}/{reference}")
    artifact.aliases.append(alias)
    artifact.save()
