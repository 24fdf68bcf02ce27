"""Copies a run of the pipeline from Trackio to W&B: it, its steps' runs, artifacts and lineage.

A run keeps its id, and a version is known by its content, so a copy may be repeated: what W&B has
whole is left alone, and what was cut off is completed. Versions may get other numbers there.
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

from pipeline.core import settings
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.files import file_digest
from pipeline.tracking.choice import choose, wandb_credentials
from pipeline.tracking.interface import RUN_OF, Artifact, Chart
from pipeline.tracking.trackio.lineage import Recorded, Row, Version, recorded
from pipeline.tracking.wandb.runs import DIGEST, WandbRun, claim, stored_artifact, stored_run
from pipeline.tracking.wandb.sdk import DeletedError, api, ask, close

VERSION, CREATED = "trackio_version", "trackio_created"  # in the metadata of a copy

AGAIN = "-again"  # in the id of what is copied anew, before a number


def sync(run_id: str, new_ids: bool = False) -> Iterator[tuple[str, str]]:
    """Copy a run of the pipeline to W&B; the name and the address of each of its runs, when done.

    Args:
        run_id: the pipeline's run.
        new_ids: give a run that was deleted in W&B another id there.

    Raises:
        PipelineError: there is no such run, it can't be copied whole, or W&B does not take it.
    """
    summary = _summary(run_id)
    _require_login()
    runs = recorded(summary.get("project") or settings.project(), run_id, summary)
    problems = dict.fromkeys(problem for run in runs for problem in run.problems())
    if problems:
        raise PipelineError(
            f"run {run_id} can't be copied whole:\n" + "\n".join(problems),
            "run the pipeline again with the same settings, which makes them anew, and repeat this",
        )
    copies: dict[str, str] = {}
    urls: dict[str, str] = {}
    with FileLock(settings.state_dir() / "sync-to-wandb.lock"):
        for done, recorded_run in enumerate(runs):
            run = _with_links(recorded_run, urls)
            try:
                url = _bring_anew(run, copies) if new_ids else _bring(run, copies)
            except DeletedError as error:
                raise PipelineError(
                    f"{run.name} (run {run.id}) was deleted in W&B, which gives no id twice",
                    f"copy it under another id: sync-to-wandb --run {run_id} --new-ids",
                ) from error
            except PipelineError as error:
                raise PipelineError(
                    f"{run.name} ({done + 1} of {len(runs)}) was not copied: {error.what}",
                    f"{error.remedy}\nrepeat this to go on from there",
                ) from error
            urls[run.id] = url
            yield run.name, url
    close()


def _with_links(run: Recorded, urls: Mapping[str, str]) -> Recorded:
    """A run whose summary names its steps' runs by their addresses in W&B, as far as it has them.

    Args:
        run: the run.
        urls: the addresses, by the ids in Trackio.
    """

    def change(name: str, value: Any) -> Any:
        return urls.get(value, value) if name.startswith(RUN_OF) else value

    rows = [
        replace(row, content={name: change(name, value) for name, value in row.content.items()})
        if row.kind == "summary"
        else row
        for row in run.rows
    ]
    return replace(run, rows=rows)


def _summary(run_id: str) -> dict[str, Any]:
    """The summary of a run that was recorded in Trackio."""
    folder = settings.state_dir() / "runs"
    found = folder.glob("**/summary.json")  # a trial's folder is in the sweep's
    paths = {"-".join(path.parent.relative_to(folder).parts): path for path in found}
    if run_id not in paths:
        raise _unknown(run_id, folder, paths)
    summary: dict[str, Any] = json.loads(paths[run_id].read_text(encoding="utf-8"))
    if summary["tracker"] == "wandb":
        urls = [step["tracker_url"] for step in summary["steps"].values() if step["tracker_url"]]
        raise PipelineError(f"run {run_id} was recorded in W&B already", "\n".join(urls))
    return summary


def _unknown(run_id: str, folder: Path, known: Iterable[str]) -> PipelineError:
    """Why there is no summary of a run."""
    if not run_id or not (folder / run_id).is_dir():
        return PipelineError(
            f"there is no run {run_id!r}{did_you_mean(run_id, known)}",
            f"the runs are the folders in {folder}",
        )
    trials = sorted(name for name in known if name.startswith(f"{run_id}-"))
    if trials:
        return PipelineError(f"{run_id} is a sweep", f"copy its trials: {', '.join(trials)}")
    return PipelineError(
        f"run {run_id} has no summary: it is under way, or was killed",
        "wait for it; or run the pipeline again, which takes over what was finished, and copy that",
    )


def _require_login() -> None:
    if not wandb_credentials():
        raise PipelineError(
            "no W&B key was found (WANDB_API_KEY, or a .netrc entry)",
            "run `wandb login`, and repeat this",
        )
    choose("wandb")  # refuses the modes in which the server can't be asked


def _bring_anew(run: Recorded, copies: dict[str, str]) -> str:
    """Have W&B hold a run whole, under the first of its ids that is not a deleted run's."""
    for number in itertools.count(2):
        try:
            return _bring(run, copies)
        except DeletedError:
            run = replace(run, id=f"{_first_id(run)}{AGAIN}{number}")
    raise AssertionError  # there is no last number


def _bring(run: Recorded, copies: dict[str, str]) -> str:
    """Have W&B hold a run whole; its address there.

    Args:
        run: the run.
        copies: W&B's version for each of Trackio's; those of this run are added.
    """
    there = stored_run(run.project, run.id)
    if there is not None:
        copies |= ask(f"read run {run.name!r}", functools.partial(_known, run, there))
    lacking = _lacking(run, there, copies) if there else []
    if there is None or there.state != ("failed" if run.failed else "finished") or lacking:
        if there is None:
            claim(run.project, run.id)
        _copy(run, copies, lacking)
        there = stored_run(run.project, run.id)
        lacking = _lacking(run, there, copies) if there else ["the run"]
        if there is None or lacking:
            raise PipelineError(f"W&B has not kept {', '.join(lacking)}", "see the server's log")
    for version in run.outputs:
        _place_aliases(run.project, version, copies[version.reference])
    return there.url


# --- what W&B has -----------------------------------------------------------------------------


def _known(run: Recorded, there: wandb.apis.public.Run) -> dict[str, str]:
    """W&B's versions of what a run has used and made, known by their content."""
    stored = {
        (artifact.name.partition(":")[0], artifact.metadata.get(DIGEST)): artifact.name
        for artifact in [*there.used_artifacts(), *there.logged_artifacts()]
    }
    versions = {version.reference: version for version in run.inputs + run.outputs}
    found = {key: stored.get((version.name, version.digest)) for key, version in versions.items()}
    return {key: name for key, name in found.items() if name}


def _lacking(run: Recorded, there: wandb.apis.public.Run, copies: Mapping[str, str]) -> list[str]:
    """What W&B does not have of a run."""

    def look() -> list[str]:
        made = {artifact.name for artifact in there.logged_artifacts()}
        used = {artifact.name for artifact in there.used_artifacts()}
        whole = {*there.summary.keys()} - _lost_files(there)
        summaries = [row.content for row in run.rows if row.kind == "summary"]
        logged = {name for row in run.rows if row.kind != "summary" for name in row.content}
        return [
            *(one.reference for one in run.outputs if copies.get(one.reference) not in made),
            *(one.reference for one in run.inputs if copies.get(one.reference) not in used),
            # A chart is there under the name of its table.
            *(name for name in sorted(logged) if not {name, f"{name}_table"} & whole),
            *(name for one in summaries for name in one if there.summary.get(name) != one[name]),
        ]

    return ask(f"read run {run.name!r}", look)


def _lost_files(there: wandb.apis.public.Run) -> set[str]:
    """The figures and tables whose files don't come back whole.

    The SDK drops a file that the server refuses, and says nothing.
    """
    lost = set()
    with tempfile.TemporaryDirectory() as folder:
        for name, value in there.summary.items():
            if not (hasattr(value, "keys") and {"path", "sha256"} <= {*value.keys()}):
                continue
            try:
                with there.file(value["path"]).download(folder, replace=True) as file:
                    whole = file_digest(Path(file.name)) == value["sha256"]
            except wandb.Error:
                whole = False
            if not whole:
                lost.add(name)
    return lost


# --- what it is given -------------------------------------------------------------------------


def _copy(run: Recorded, copies: dict[str, str], lacking: Iterable[str]) -> None:
    """Write a run to W&B, or what is lacking of it there."""
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
            else:  # whoever made it is gone from Trackio
                copies[version.reference] = _store(run.project, target.use_new, version)
        for version in run.outputs:
            copies[version.reference] = _store(run.project, target.log_artifact, version)
        # What was logged is there from the first row on; of some rows the files were lost.
        again = [row for row in run.rows[: target.first_step] if {*row.content} & {*lacking}]
        for row in run.rows[target.first_step :] + again:
            _log(target, row)
        on_failure.pop_all()
    target.finish(failed=run.failed)


def _config(run: Recorded) -> dict[str, Any]:
    """A run's config as its step gave it, without what Trackio adds, and where it is from."""
    given = {k: v for k, v in run.config.items() if not k.startswith("_") and k != "job_type"}
    return {**given, "trackio_run": _first_id(run), CREATED: run.config.get("_Created")}


def _first_id(run: Recorded) -> str:
    """A run's id in Trackio."""
    return run.id.partition(AGAIN)[0]


def _log(target: WandbRun, row: Row) -> None:
    """Log again what was logged at once."""
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
    """A table; some are what Trackio has for a chart."""
    if chart := Chart.of(table):
        return chart
    columns = [*table.columns]
    if columns[:1] == ["label"] and [*table.select_dtypes("number").columns] == columns[1:2]:
        return table.set_index("label")[columns[1]]
    return table


def _store(project: str, record: Callable[..., Artifact], version: Version) -> str:
    """Have a run record a version; what W&B calls it."""
    before = stored_artifact(project, f"{version.name}:latest")
    metadata = {**version.metadata, VERSION: version.number, CREATED: version.created}
    with tempfile.TemporaryDirectory() as folder:
        for name, place in version.places.items():
            link = Path(folder, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(place.absolute())
        stored = record(Path(folder), version.name, version.type, version.description, metadata)
    if stored.digest != version.digest:
        raise PipelineError(f"{version.reference} was changed on disk", "see that nobody does that")
    ask(f"place 'latest' of {version.name!r}", lambda: _keep_latest(project, version, before))
    return stored.reference


def _keep_latest(project: str, version: Version, before: wandb.Artifact | None) -> None:
    """Put ``latest`` on what is newest: recording an old version has moved it there.

    It stays where it was on a version that a run has logged to W&B itself.
    """
    versions = [*api().artifacts(version.type, f"{project}/{version.name}")]
    if before is not None and VERSION not in before.metadata:
        newest = next(one for one in versions if one.version == before.version)
    else:
        newest = max(versions, key=_created)
    if "latest" not in newest.aliases:
        newest.aliases.append("latest")
        newest.save()


def _created(artifact: wandb.Artifact) -> datetime:
    """When a version was made, in Trackio if it is a copy."""
    found = datetime.fromisoformat(artifact.metadata.get(CREATED) or artifact.created_at)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _place_aliases(project: str, version: Version, reference: str) -> None:
    """Give a copy the aliases that users have given; one that W&B has elsewhere stays there."""
    for alias in sorted({*version.aliases} - {"latest"}):
        holder = stored_artifact(project, f"{version.name}:{alias}")
        if holder is None:
            add = functools.partial(_add, project, reference, alias)
            ask(f"give {reference} the alias {alias!r}", add)
        elif (held := f"{version.name}:{holder.version}") != reference:
            print(
                f"warning: in W&B the alias {alias!r} stays on {held}; in Trackio it is on "
                f"{version.reference}, which is {reference} there",
                file=sys.stderr,
            )


def _add(project: str, reference: str, alias: str) -> None:
    artifact = api().artifact(f"{project}/{reference}")
    artifact.aliases.append(alias)
    artifact.save()
