"""Care of the local state: is everything whole, and what can go?"""

import re
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.cache.finished import EARLIER, FOLDER, Damaged, Record
from pipeline.core import databases, settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import UNUSABLE, file_digest, parse_record, read_record, write_whole
from pipeline.core.results import damage
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.provenance import snapshot
from pipeline.tracking import local_records

RUN_OF_STEP = re.compile(r"-((\d{8}-\d{6}-[0-9a-f]{6})(?:-\d+)?)$")  # and a trial's sweep
REMOVED = "removed_runs.txt"  # the runs that gc has removed, whose artifacts others may still use
WRITTEN = 3600  # seconds after which nobody is about to refer to a file any more


def verify(state: Path) -> list[str]:
    """Everything that is wrong in the local state, one line each.

    Checked are the databases; all that finished steps have left in the tracker and in MLflow;
    whether every artifact in Trackio's store has its files, each of these against the digest that
    names it; and the registered models that have an alias.
    """
    broken = databases.damaged(thorough=True)
    problems = {"; ".join(str(error).splitlines()) for error in broken}
    for path in sorted((state / FOLDER).glob("*/*/*.json")):
        try:
            record = Record.read(path)
            result, store = record.result, record.parts["tracker"]["store"]
            found = damage(result) if broken else local_records.lost(result, store)
            problems |= {f"{result.step}: {problem}" for problem in found}
        except FileNotFoundError:
            continue  # removed meanwhile
        except Damaged as error:
            problems.add(str(error))
    return sorted(problems if broken else problems | _unnamed(tuple(problems)))


def _unnamed(known: tuple[str, ...]) -> set[str]:
    """What is wrong in the stores of Trackio and MLflow, whichever step it is of."""
    problems = {*local_records.damaged_models()}
    for reference, path in local_records.lost_files():
        if not any(line.endswith(f"{reference} is missing its file {path}") for line in known):
            problems.add(f"Trackio: {reference} is missing its file {path}")
    for blob in settings.trackio_dir().glob("artifacts/*/blobs/sha256/*/*"):
        if not any(line.endswith(str(blob)) for line in known) and ".partial." not in blob.name:
            if not blob.is_file():
                problems.add(f"Trackio: {blob} is missing: something else is in its place")
            elif file_digest(blob) != blob.name:
                problems.add(f"Trackio: {blob} has been changed on disk")
    return problems


@dataclass
class Garbage:
    """What nothing refers to any more.

    Attributes:
        runs: folders of runs that are not kept.
        snapshots: ids of those runs whose code is kept in git, and no kept run goes back to it.
        copies: folders of what was copied or made again to reproduce a run.
        files: records of finished steps, and what interrupted writes left behind.
        versions: artifact versions, as (project, name, version, bytes).
        sweeps: folders of sweeps of which no trial is kept, and the files that name them.
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
        """What would be removed, for the user to read first."""
        said = [f"{row['kind']:<8}  {row['name']}" for row in self.rows()]
        few = [line for line in said if not line.startswith(("MLflow", "Trackio"))]
        few += [f"MLflow    {len(self.mlflow)} run(s), their files and models"] * bool(self.mlflow)
        return few + [f"Trackio   {len(self.tracked)} run(s)"] * bool(self.tracked)

    def rows(self) -> list[dict[str, str]]:
        """The same for programs: each thing by its kind and name."""
        versions = [f"{n}:v{v}  ({size:,} bytes, {p})" for p, n, v, size in self.versions]
        kinds: dict[str, Iterable[object]] = {
            "run": [path.name for path in self.runs],
            "code": [f"{snapshot.REFS}/{id}" for id in self.snapshots],
            "copy": self.copies,
            "artifact": versions,
            "sweep": self.sweeps,
            "file": self.files,
            "MLflow": self.mlflow,
            "Trackio": ["/".join(one) for one in self.tracked],
        }
        return [{"kind": k, "name": str(one)} for k, found in kinds.items() for one in found]


def garbage(state: Path, keep: int | None) -> Garbage:
    """What can be removed when only the last ``keep`` runs are kept; None keeps them all.

    An artifact version stays if a kept run used or made it, if it has an alias of the user's, or
    if anybody else made it: a step that ran alone, or a run with another state folder.

    Raises:
        PipelineError: a run is under way.
    """
    _refuse_beside_a_run(state)
    known = _recorded(state)
    folders = [*known]
    kept = folders if keep is None else folders[len(folders) - min(keep, len(folders)) :]
    found = Garbage(runs=[path for path in folders if path not in kept])
    summaries = [known[path] for path in kept]
    needed, prints = _referred_to(summaries)
    _add_records(state, found, [known[path] for path in found.runs], summaries, kept)
    for record in (state / FOLDER).glob("*/*/*.json"):
        if record.stem not in prints:
            found.files.append(record)
    gone = [known[path]["run_id"] for path in found.runs]
    found.snapshots = _unneeded_snapshots(gone, summaries)
    if not list(state.glob("reproductions/*/running/*.json")):
        found.copies = sorted([*state.glob("reproductions/*"), *state.glob("sources/*")])
    found.files += sorted((state / FOLDER).glob("*/*/*.partial"))
    for earlier in EARLIER:
        found.files += sorted(path for path in (state / earlier).glob("*/*") if path.is_file())
    stray = local_records.stray_files()
    found.files += sorted(path for path in stray if time.time() - path.stat().st_mtime > WRITTEN)
    from pipeline.tracking.trackio import store as trackio_store

    names, ours = {summary["run_id"] for summary in summaries}, _known_runs(state)
    found.versions = [
        (project, name, version["version"], version["size_bytes"])
        for project, name, version, makers in trackio_store.versions()
        if (project, name, version["version"]) not in needed
        and not set(version["aliases"]) - {"latest"}
        and all(
            (run := RUN_OF_STEP.search(maker or "")) and run[1] not in names and run[2] in ours
            for maker in makers
        )
    ]
    return _without_others(state, found)


def _without_others(state: Path, found: Garbage) -> Garbage:
    """Leave out what lies outside of the stores: a folder on its way is a link."""
    places = [state.resolve(), settings.trackio_dir().resolve()]

    def is_ours(path: Path) -> bool:
        return any(path.parent.resolve().is_relative_to(place) for place in places)

    for name in ("runs", "copies", "files", "sweeps"):
        paths = getattr(found, name)
        for path in paths:
            if not is_ours(path):
                say(f"warning: {path} stays: it is outside of {state}", file=sys.stderr)
        setattr(found, name, [path for path in paths if is_ours(path)])
    return found


def clean(state: Path) -> bool:
    """Remove a state folder with all that is in it; whether there was one.

    Raises:
        PipelineError: a run is under way, or no run of the pipeline has made this folder.
    """
    from pipeline.orchestration.execution import processes

    if not state.is_dir():
        return False
    if state != ROOT / ".pipeline" and not (state / "running").is_dir():
        raise PipelineError(f"{state} is no folder of the pipeline's state", "check --state-dir")
    if left := processes.active_runs():
        raise PipelineError(f"a run is under way: {', '.join(left)}", "wait for it, or stop it")
    if state.is_symlink():
        state.unlink()
    else:
        shutil.rmtree(state)
    return True


def _refuse_beside_a_run(state: Path) -> None:
    """Nothing can go while a run is under way; those that were killed are tidied up after."""
    if not list((state / "running").glob("*.json")):
        return
    from pipeline.orchestration.dead_runs import mark_dead
    from pipeline.tracking.mlflow import store as mlflow_store

    mlflow_store.client()  # MLflow is pointed at its store
    mark_dead()
    left = sorted(path.stem for path in (state / "running").glob("*.json"))
    if left:
        raise PipelineError(
            f"a run is under way: {', '.join(left)}",
            "wait for it; after one that was killed, a start on its machine and with its "
            "MLFLOW_TRACKING_URI tidies up",
        )


def _known_runs(state: Path) -> set[str]:
    """The runs and sweeps of this state folder, those that were removed among them."""
    removed = state / REMOVED
    told = removed.read_text("utf-8", "replace").split() if removed.is_file() else []
    return {*told, *(path.name for path in (state / "runs").glob("*"))}


def _recorded(state: Path) -> dict[Path, dict[str, Any]]:
    """The summaries of all runs by their folder, in the order in which they ended.

    The clock may have been wrong, so they are counted; those of earlier versions come first.
    """
    found = {}
    for path in (state / "runs").glob("**/summary.json"):
        try:
            told = parse_record(path.read_text(encoding="utf-8"))
            prints, versions = _referred_to([told])  # which all else goes by
            _ = told["run_id"] + "", [*prints], [*versions], told.get("number", 0) + 0
            found[path.parent] = told
        except (OSError, *UNUSABLE) as error:
            say(f"warning: {path} is damaged ({type(error).__name__}); its folder stays")
    return dict(sorted(found.items(), key=lambda one: (one[1].get("number", 0), one[0].name)))


def _add_records(
    state: Path,
    found: Garbage,
    gone: list[dict[str, Any]],
    kept: list[dict[str, Any]],
    folders: list[Path],
) -> None:
    """Add what runs that go have in MLflow and Trackio, and the sweeps that go with them."""
    if not gone:
        return
    from pipeline.tracking.mlflow import garbage as mlflow_garbage
    from pipeline.tracking.trackio import store as trackio_store

    parents = {path.parent for path in found.runs} - {path.parent for path in folders}
    sweeps = {}
    for file in sorted((state / "sweeps").glob("*.json")):
        told = read_record(file, "folder", "mlflow_run")
        if told and Path(told["folder"]) in parents:
            sweeps[file] = told
    found.sweeps = sorted([*parents - {state / "runs"}, *sweeps])
    made = [summary["mlflow_run"] for summary in gone if summary.get("mlflow_run")]
    steps = [step for summary in kept for step in summary["steps"].values()]
    needed = {summary.get("mlflow_run") for summary in kept} | {s.get("mlflow_run") for s in steps}
    made += [told["mlflow_run"] for told in sweeps.values()]
    found.mlflow = mlflow_garbage.unneeded(made, needed)
    names, ids = (
        {summary["run_id"] for summary in gone},
        {step.get("tracker_run") for step in steps},
    )
    found.tracked = [
        (project, name, id)
        for project, name, id in trackio_store.runs()
        if (run := RUN_OF_STEP.search(name)) and run[1] in names and id not in ids
    ]


def _unneeded_snapshots(gone: list[str], kept: list[dict[str, Any]]) -> list[str]:
    """The runs whose code made nothing that is kept."""
    steps = [step for summary in kept for step in summary["steps"].values()]
    needed = {step.get("pipeline_run") for step in steps}
    there = snapshot.run_ids(ROOT)
    return [id for id in gone if id in there and id not in needed]


def _referred_to(summaries: list[dict[str, Any]]) -> tuple[set[tuple[str, str, int]], set[str]]:
    """The artifact versions and the fingerprints that runs refer to."""
    versions, prints = set(), set()
    for summary in summaries:
        for step in summary["steps"].values():
            prints.add(step["fingerprint"])
            for artifact in step["inputs"] + step["outputs"]:
                number = artifact["version"].removeprefix("v")
                versions.add((summary["project"], artifact["name"], int(number)))
    return versions, prints


def remove(state: Path, found: Garbage) -> None:
    """Remove what :func:`garbage` found."""
    if found.runs:
        gone = {path.relative_to(state / "runs").parts[0] for path in found.runs}
        write_whole(state / REMOVED, "\n".join(sorted(_known_runs(state) | gone)))
    for path in found.files:  # first: a record must not outlive what it names
        path.unlink(missing_ok=True)
    if found.versions:
        from pipeline.tracking.trackio import store as trackio_store

        trackio_store.remove_versions([version[:3] for version in found.versions])
    if found.tracked:
        from pipeline.tracking.trackio import store as trackio_store

        trackio_store.remove_runs(found.tracked)
    if found.mlflow:
        from pipeline.tracking.mlflow import garbage as mlflow_garbage

        mlflow_garbage.remove(found.mlflow)
    snapshot.forget(ROOT, found.snapshots)
    for path in found.runs + found.copies + found.sweeps:
        path.unlink(missing_ok=True) if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def size(state: Path) -> str:
    """How much there is in a state folder, for the user to compare."""
    sizes = [path.lstat().st_size for path in state.rglob("*") if not path.is_dir()]
    return f"{len(sizes):,} files, {sum(sizes) / 1e6:,.1f} MB"
