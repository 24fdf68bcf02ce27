"""A run's code, data and model, laid out in a new folder."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import PipelineError
from pipeline.core.results import SUMMARY
from pipeline.history import recreate, step_files
from pipeline.history.records import RunRecord
from pipeline.history.runs import History

GIT = shutil.ignore_patterns(".git")


def checkout(name: str, into: Path) -> list[str]:
    """Lay a run out in a folder, whole or not at all; a line for each thing that is there.

    Args:
        name: the run, see :meth:`pipeline.history.runs.History.find`.
        into: the folder; it must not exist, or be empty.

    Raises:
        PipelineError: something is in the folder, or something of the run is gone.
    """
    into = into.absolute()
    if into.is_file() or (into.is_dir() and any(into.iterdir())):
        raise PipelineError(f"--into {into}: it is not empty", "name a new folder")
    run = History().find(name)
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}-") as partial:
        place = Path(partial, "run")
        place.mkdir()
        lines = list(_lay_out(run, place))
        place.rename(into)
    return lines


def _lay_out(run: RunRecord, place: Path) -> Iterator[str]:
    with recreate.code_folder(run) as folder:
        shutil.copytree(folder, place / "code", symlinks=True, ignore=GIT)
    yield "code/"
    for artifact in run.artifacts.values():
        yield f"{_files(run, artifact, place)}  {artifact['name']}:{artifact['version']}"
    (place / "environment").mkdir()
    for name, step in run.steps.items():
        if lines := step_files.lock(step):
            (place / "environment" / f"{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    yield "environment/  the packages of each step"
    (place / "config.yaml").write_text(yaml.safe_dump(run.config, sort_keys=False), "utf-8")
    yield "config.yaml"
    (place / SUMMARY).write_text(json.dumps(run.summary, indent=2), "utf-8")
    yield SUMMARY


def _files(run: RunRecord, artifact: Mapping[str, Any], place: Path) -> str:
    """Fetch an artifact: one file as it is, several in a folder of the artifact's name."""
    kind = place / ("model" if artifact["type"] == "model" else "data")
    kind.mkdir(exist_ok=True)
    with recreate.artifact_folder(run, artifact) as folder:
        files = [path for path in folder.rglob("*") if path.is_file()]
        source, target = folder, kind / artifact["name"]
        if len(files) == 1 and not (kind / files[0].name).exists():
            source, target = files[0], kind / files[0].name
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    return target.relative_to(place).as_posix()
