"""Maintenance of the local state: finds damage, and removes data that nothing refers to."""

import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.cache.finished import EARLIER, FOLDER, Damaged, Record
from pipeline.core import databases, settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import UNUSABLE, file_digest, parse_record, read_record, write_whole
from pipeline.core.results import StepResult, damage
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.provenance import snapshot
from pipeline.tracking import local_records

RUN_OF_STEP = re.compile(r"-((\d{8}-\d{6}-[0-9a-f]{6})(?:-\d+)?)$")  # group 2: a trial's sweep
REMOVED = "removed_runs.txt"  # runs that gc has removed; other runs may still use their artifacts
WRITTEN = 3600  # seconds after which a file without a reference counts as left over


def verify(state: Path) -> list[str]:
    """The problems of the local state, one line each.

    Checks the databases, the outputs of finished steps in the tracker and in MLflow, the files of
    all artifacts in Trackio's store against their digests, and registered models with an alias.
    """
    broken = databases.damaged(thorough=True)
    problems = {"; ".join(str(error).splitlines()) for error in broken}
    finished: dict[Path, tuple[StepResult, str]] = {}
    for path in sorted((state / FOLDER).glob("*/*/*.json")):
        try:
            record = Record.read(path)
            finished[path] = record.result, record.parts["tracker"]["store"]
            problems |= {f"{record.result.step}: {line}" for line in damage(record.result)}
        except FileNotFoundError:
            continue  # removed by another process
        except Damaged as error:
            problems.add(str(error))
    if not broken:
        problems |= {f"{result.step}: {line}" for result, line in _lost(finished)}
        outputs = [output for result, _ in finished.values() for output in result.outputs]
        trackio = settings.trackio_dir()
        checked = {trackio / place for output in outputs for place in output.get("stored", {})}
        problems |= _damaged_stores(problems, checked)
    return sorted(problems)


def _lost(finished: Mapping[Path, tuple[StepResult, str]]) -> Iterator[tuple[StepResult, str]]:
    """What the databases no longer have of finished steps' results, each in its tracker."""
    stores: dict[str, list[StepResult]] = {}
    for result, store in finished.values():
        stores.setdefault(store, []).append(result)
    paths = {result.fingerprint: path for path, (result, _) in finished.items()}
    for store, results in stores.items():
        for result, problem in local_records.lost(results, store):
            if paths[result.fingerprint].exists():  # or another process has removed it since
                yield result, problem


def _damaged_stores(reported: set[str], checked: set[Path]) -> set[str]:
    """Problems in the stores of Trackio and MLflow that are not reported yet.

    Args:
        reported: the reported problems.
        checked: the files that need no further check.
    """
    problems = {*local_records.damaged_models()}
    for reference, path in local_records.missing_files():
        if not any(line.endswith(f"{reference} is missing its file {path}") for line in reported):
            problems.add(f"Trackio: {reference} is missing its file {path}")
    for blob in settings.trackio_dir().glob("artifacts/*/blobs/sha256/*/*"):
        if blob not in checked and ".partial." not in blob.name:
            if not blob.is_file():
                problems.add(f"Trackio: {blob} is missing: something else is in its place")
            elif file_digest(blob) != blob.name:
                problems.add(f"Trackio: {blob} has been changed on disk")
    return problems


@dataclass
class Garbage:
    """Data that nothing refers to any more.

    Attributes:
        runs: folders of runs that are not kept.
        snapshots: ids of these runs whose code is in git and unused by kept runs.
        copies: folders of reproductions and of code copied for them.
        files: records of finished steps, and partial files of interrupted writes.
        versions: artifact versions, as (project, name, version, bytes).
        sweeps: folders of sweeps without kept trials, and the files that name them.
        mlflow: runs in MLflow's local store.
        tracked: runs in Trackio's local store, as (project, name, id).
    """

    runs: list[Path] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    versions: list[tuple[str, str, int, int]] = field(default_factory=list)
    sweeps: list[Path] = field(default_factory=list)
    mlflow: list[str] = field(default_factory=list)
    tracked: list[tuple[str, str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def lines(self) -> list[str]:
        """The garbage as lines for the user."""
        lines = [f"{row['kind']:<8}  {row['name']}" for row in self.rows()]
        few = [line for line in lines if not line.startswith(("MLflow", "Trackio"))]
        few += [f"MLflow    {len(self.mlflow)} run(s), their files and models"] * bool(self.mlflow)
        return few + [f"Trackio   {len(self.tracked)} run(s)"] * bool(self.tracked)

    def rows(self) -> list[dict[str, str]]:
        """The garbage as rows with a kind and a name each."""
        versions = [f"{n}:v{v}  ({size:,} bytes, {p})" for p, n, v, size in self.versions]
        kinds: dict[str, Iterable[object]] = {
            "run": [path.name for path in self.runs],
            "code": [f"{snapshot.REFS}/{id}" for id in self.snapshots],
            "copy": self.copies,
            "artifact": versions,
            "sweep": self.sweeps,
            "file": self.files,
            "MLflow": self.mlflow,
            "Trackio": ["/".join(item) for item in self.tracked],
        }
        return [{"kind": k, "name": str(item)} for k, names in kinds.items() for item in names]


def garbage(state: Path, keep: int | None) -> Garbage:
    """The data that can be removed if only the last ``keep`` runs are kept; None: all runs.

    An artifact version stays if a kept run used or logged it, if the user gave it an alias, or if
    it comes from elsewhere: a step that ran alone, or a run with another state folder.

    Raises:
        PipelineError: a run is in progress.
    """
    _refuse_during_run(state)
    recorded = _recorded(state)
    folders = [*recorded]
    kept_folders = folders if keep is None else folders[len(folders) - min(keep, len(folders)) :]
    unneeded = Garbage(runs=[path for path in folders if path not in kept_folders])
    kept_summaries = [recorded[path] for path in kept_folders]
    needed, fingerprints = _referred_to(kept_summaries)
    _add_records(
        state, unneeded, [recorded[path] for path in unneeded.runs], kept_summaries, kept_folders
    )
    for record in (state / FOLDER).glob("*/*/*.json"):
        if record.stem not in fingerprints:
            unneeded.files.append(record)
    removed_ids = [recorded[path]["run_id"] for path in unneeded.runs]
    unneeded.snapshots = _unneeded_snapshots(removed_ids, kept_summaries)
    if not list(state.glob("reproductions/*/running/*.json")):
        unneeded.copies = sorted([*state.glob("reproductions/*"), *state.glob("sources/*")])
    unneeded.files += sorted((state / FOLDER).glob("*/*/*.partial"))
    for earlier in EARLIER:
        unneeded.files += sorted(path for path in (state / earlier).glob("*/*") if path.is_file())
    stray = local_records.stray_files()
    unneeded.files += sorted(path for path in stray if time.time() - path.stat().st_mtime > WRITTEN)
    from pipeline.tracking.trackio import store as trackio_store

    kept_ids, local_runs = {summary["run_id"] for summary in kept_summaries}, _known_runs(state)
    unneeded.versions = [
        (project, name, version["version"], version["size_bytes"])
        for project, name, version, makers in trackio_store.versions()
        if (project, name, version["version"]) not in needed
        and not set(version["aliases"]) - {"latest"}
        and all(
            (run := RUN_OF_STEP.search(maker or ""))
            and run[1] not in kept_ids
            and run[2] in local_runs
            for maker in makers
        )
    ]
    return _without_outside(state, unneeded)


def _without_outside(state: Path, unneeded: Garbage) -> Garbage:
    """Remove paths outside of the stores, which are reached through links, from the garbage."""
    roots = [state.resolve(), settings.trackio_dir().resolve()]

    def is_ours(path: Path) -> bool:
        return any(path.parent.resolve().is_relative_to(root) for root in roots)

    for name in ("runs", "copies", "files", "sweeps"):
        paths = getattr(unneeded, name)
        for path in paths:
            if not is_ours(path):
                say(f"warning: {path} stays: it is outside of {state}", file=sys.stderr)
        setattr(unneeded, name, [path for path in paths if is_ours(path)])
    return unneeded


def clean(state: Path) -> bool:
    """Remove a state folder with all its content; returns whether it existed.

    Raises:
        PipelineError: a run is in progress, or the folder is no state folder.
    """
    from pipeline.orchestration.execution import processes

    if not state.is_dir():
        return False
    if state != ROOT / ".pipeline" and not (state / "running").is_dir():
        raise PipelineError(f"{state} is no folder of the pipeline's state", "check --state-dir")
    if running := processes.active_runs():
        raise PipelineError(f"a run is under way: {', '.join(running)}", "wait for it, or stop it")
    if state.is_symlink():
        state.unlink()
    else:
        shutil.rmtree(state)
    return True


def _refuse_during_run(state: Path) -> None:
    """Refuse garbage collection during a run, after cleaning up killed runs."""
    if not list((state / "running").glob("*.json")):
        return
    from pipeline.orchestration.dead_runs import mark_dead
    from pipeline.tracking.mlflow import store as mlflow_store

    mlflow_store.client()  # connects MLflow to its store
    mark_dead()
    running = sorted(path.stem for path in (state / "running").glob("*.json"))
    if running:
        raise PipelineError(
            f"a run is under way: {', '.join(running)}",
            "wait for it; after one that was killed, a start on its machine and with its "
            "MLFLOW_TRACKING_URI tidies up",
        )


def _known_runs(state: Path) -> set[str]:
    """The ids of this state folder's runs and sweeps, including removed ones."""
    removed = state / REMOVED
    removed_ids = removed.read_text("utf-8", "replace").split() if removed.is_file() else []
    return {*removed_ids, *(path.name for path in (state / "runs").glob("*"))}


def _recorded(state: Path) -> dict[Path, dict[str, Any]]:
    """The summaries of all runs by folder, in the order in which the runs ended.

    Runs are ordered by number, as clocks may be wrong; runs of earlier versions have none and come
    first.
    """
    summaries = {}
    for path in (state / "runs").glob("**/summary.json"):
        try:
            summary = parse_record(path.read_text(encoding="utf-8"))
            versions, fingerprints = _referred_to([summary])  # raises if the summary is damaged
            _ = summary["run_id"] + "", [*fingerprints], [*versions], summary.get("number", 0) + 0
            summaries[path.parent] = summary
        except (OSError, *UNUSABLE) as error:
            say(f"warning: {path} is damaged ({type(error).__name__}); its folder stays")
    return dict(
        sorted(summaries.items(), key=lambda item: (item[1].get("number", 0), item[0].name))
    )


def _add_records(
    state: Path,
    unneeded: Garbage,
    removed: list[dict[str, Any]],
    kept_summaries: list[dict[str, Any]],
    kept_folders: list[Path],
) -> None:
    """Add the removed runs' records in MLflow and Trackio, and their sweeps."""
    if not removed:
        return
    from pipeline.tracking.mlflow import garbage as mlflow_garbage
    from pipeline.tracking.trackio import store as trackio_store

    parents = {path.parent for path in unneeded.runs} - {path.parent for path in kept_folders}
    sweeps = {}
    for file in sorted((state / "sweeps").glob("*.json")):
        record = read_record(file, "folder", "mlflow_run")
        if record and Path(record["folder"]) in parents:
            sweeps[file] = record
    unneeded.sweeps = sorted([*parents - {state / "runs"}, *sweeps])
    mlflow_runs = [summary["mlflow_run"] for summary in removed if summary.get("mlflow_run")]
    steps = [step for summary in kept_summaries for step in summary["steps"].values()]
    users = [*kept_summaries, *steps]
    needed = {user["mlflow_run"] for user in users if user.get("mlflow_run")}
    mlflow_runs += [record["mlflow_run"] for record in sweeps.values()]
    unneeded.mlflow = mlflow_garbage.removable(mlflow_runs, needed)
    removed_ids, kept_tracker_runs = (
        {summary["run_id"] for summary in removed},
        {step.get("tracker_run") for step in steps},
    )
    unneeded.tracked = [
        (project, name, id)
        for project, name, id in trackio_store.runs()
        if (run := RUN_OF_STEP.search(name))
        and run[1] in removed_ids
        and id not in kept_tracker_runs
    ]


def _unneeded_snapshots(removed_ids: list[str], kept_summaries: list[dict[str, Any]]) -> list[str]:
    """The removed runs with stored code, whose results no kept run uses."""
    steps = [step for summary in kept_summaries for step in summary["steps"].values()]
    needed = {step.get("pipeline_run") for step in steps}
    stored = snapshot.run_ids(ROOT)
    return [id for id in removed_ids if id in stored and id not in needed]


def _referred_to(summaries: list[dict[str, Any]]) -> tuple[set[tuple[str, str, int]], set[str]]:
    """The artifact versions and fingerprints that runs refer to."""
    versions, fingerprints = set(), set()
    for summary in summaries:
        for step in summary["steps"].values():
            fingerprints.add(step["fingerprint"])
            for artifact in step["inputs"] + step["outputs"]:
                number = artifact["version"].removeprefix("v")
                versions.add((summary["project"], artifact["name"], int(number)))
    return versions, fingerprints


def remove(state: Path, unneeded: Garbage) -> None:
    """Remove the result of :func:`garbage`."""
    if unneeded.runs:
        removed_ids = {path.relative_to(state / "runs").parts[0] for path in unneeded.runs}
        write_whole(state / REMOVED, "\n".join(sorted(_known_runs(state) | removed_ids)))
    for path in unneeded.files:  # first, as a record must not outlive its outputs
        path.unlink(missing_ok=True)
    if unneeded.versions:
        from pipeline.tracking.trackio import store as trackio_store

        trackio_store.remove_versions([version[:3] for version in unneeded.versions])
    if unneeded.tracked:
        from pipeline.tracking.trackio import store as trackio_store

        trackio_store.remove_runs(unneeded.tracked)
    if unneeded.mlflow:
        from pipeline.tracking.mlflow import garbage as mlflow_garbage

        mlflow_garbage.remove(unneeded.mlflow)
    snapshot.forget(ROOT, unneeded.snapshots)
    for path in unneeded.runs + unneeded.copies + unneeded.sweeps:
        path.unlink(missing_ok=True) if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def size(state: Path) -> str:
    """The number of files in a state folder, and their size."""
    sizes = [path.lstat().st_size for path in state.rglob("*") if not path.is_dir()]
    return f"{len(sizes):,} files, {sum(sizes) / 1e6:,.1f} MB"
