"""Writes a run's code, data and model to a new folder."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import PipelineError
from pipeline.core.results import SUMMARY
from pipeline.history.records import RunRecord
from pipeline.history.reproduction import recreate
from pipeline.history.runs import History
from pipeline.history.stored import step_files

GIT = shutil.ignore_patterns(".git")


def checkout(name: str, into: Path) -> list[str]:
    """Write a run to a folder, completely or not at all; return a line for each part.

    Args:
        name: the run, see :meth:`pipeline.history.runs.History.find`.
        into: a folder that is empty or does not exist.

    Raises:
        PipelineError: The folder is not empty, or a part of the run is gone.
    """
    into = into.absolute()
    if into.is_file() or (into.is_dir() and any(into.iterdir())):
        raise PipelineError(f"--into {into}: it is not empty", "name a new folder")
    run = History().find(name)
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}-") as partial:
        run_folder = Path(partial, "run")
        run_folder.mkdir()
        lines = list(_lay_out(run, run_folder))
        run_folder.rename(into)
    return lines


def _lay_out(run: RunRecord, into: Path) -> Iterator[str]:
    with recreate.code_folder(run) as folder:
        shutil.copytree(folder, into / "code", symlinks=True, ignore=GIT)
    yield "code/"
    for artifact in run.artifacts.values():
        yield f"{_files(run, artifact, into)}  {artifact['name']}:{artifact['version']}"
    (into / "environment").mkdir()
    for name, step in run.steps.items():
        if lines := step_files.lock(step):
            (into / "environment" / f"{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    yield "environment/  the packages of each step"
    (into / "config.yaml").write_text(yaml.safe_dump(run.config, sort_keys=False), "utf-8")
    yield "config.yaml"
    (into / SUMMARY).write_text(json.dumps(run.summary, indent=2), "utf-8")
    yield SUMMARY


def _files(run: RunRecord, artifact: Mapping[str, Any], into: Path) -> str:
    """Fetch an artifact: a single file as it is, several files in a folder of its name."""
    parent = into / ("model" if artifact["type"] == "model" else "data")
    parent.mkdir(exist_ok=True)
    with recreate.artifact_folder(run, artifact) as folder:
        files = [path for path in folder.rglob("*") if path.is_file()]
        source, target = folder, parent / artifact["name"]
        if len(files) == 1 and not (parent / files[0].name).exists():
            source, target = files[0], parent / files[0].name
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    return target.relative_to(into).as_posix()
