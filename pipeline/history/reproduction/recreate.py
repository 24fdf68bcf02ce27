"""Recreates what a recorded run used: code, configuration, data and environments."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf

from pipeline import tracking
from pipeline.cache import sources
from pipeline.cache.finished import Cache
from pipeline.config.overrides import readable
from pipeline.config.schema import RENAMED
from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import content_digest
from pipeline.core.results import StepResult
from pipeline.core.security import secrets
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.core.tracing import observations
from pipeline.history.records import RunRecord
from pipeline.provenance import snapshot
from pipeline.provenance.git import GitError, Repository
from pipeline.tracking import Tracker

NAME = "recorded"  # of the configuration file
INTERPOLATION = re.compile(r"\$\{(?!oc\.env:)")
# Variables that name a store, a run or a project; a run with a state folder of its own ignores them
NOT_INHERITED = (
    "PIPELINE_",
    "TRACKIO_",
    "WANDB_",
    "MLFLOW_TRACKING_",
    "MLFLOW_RUN_",
    "MLFLOW_EXP",
)


@contextlib.contextmanager
def code_folder(run: RunRecord) -> Iterator[Path]:
    """A temporary worktree with the code that produced a run's results.

    A run that reused every step from the cache has no snapshot. Then the newest run that
    executed one of its steps is used, provided that its code has the files of all steps.

    Raises:
        PipelineError: The code is not in this repository, or not in a single snapshot.
    """
    try:
        snapshot_commit = Repository(ROOT).commit(f"{snapshot.REFS}/{run.id}")
    except GitError as error:
        raise PipelineError(
            f"the code of run {run.id} can't be looked up: {error.what}",
            f"use a clone of the repository that the run was made in (this is {ROOT})",
        ) from error
    makers = sorted({step.pipeline_run for step in run.steps.values() if step.pipeline_run})
    candidates = [run.id] if snapshot_commit or not makers else makers[::-1]
    differing_files = []
    for maker in candidates:
        repository, commit = snapshot.find(ROOT, maker)
        with repository.worktree(commit) as folder:
            differing_files = [] if snapshot_commit else _foreign(folder, run)
            if not differing_files:
                origin = "" if maker == run.id else f", of run {maker}, which made its steps"
                say(f"code: {commit[:12]}{origin}", flush=True)
                yield folder
                return
    raise PipelineError(
        f"run {run.id} reused steps of several runs with different code ({', '.join(candidates)}), "
        f"and no snapshot has all of it: {', '.join(differing_files[:5])}",
        "reproduce one of these runs instead, or use today's code: --code current",
    )


def _foreign(folder: Path, run: RunRecord) -> list[str]:
    """The files of a run's steps that differ in this folder, as far as cache records list them."""
    differing = set()
    for step in run.steps.values():
        if record := Cache(settings.state_dir()).find(step):
            for file, recorded in record.evidence.proof[observations.CODE].items():
                if observations.observe_code(folder / file, recorded) != recorded:
                    differing.add(file)
    return sorted(differing)


def results(run: RunRecord) -> dict[str, StepResult]:
    """The results of the run's executed and cached steps.

    Raises:
        PipelineError: The run did not finish.
    """
    if run.status != "finished":
        raise PipelineError(
            f"run {run.id} did not finish ({run.status}), so there is nothing to compare with",
            "start a new run from it: --code current, --data latest or --set KEY=VALUE",
        )
    return {name: step for name, step in run.steps.items() if step.status in ("ran", "cached")}


def adapt_config(recorded: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Fit a recorded configuration to other code: drop unknown keys, add defaults of new keys."""
    defaults = _sections(folder / "config.yaml")
    adapted = {
        section: {key: recorded.get(section, {}).get(key, default) for key, default in keys.items()}
        for section, keys in defaults.items()
        if section not in ("defaults", "hydra")
    }
    for old, new in RENAMED.items():
        (section, key), (new_section, new_key) = old.split("."), new.split(".")
        if key in recorded.get(section, {}) and new_key not in recorded.get(new_section, {}):
            adapted[new_section][new_key] = recorded[section][key]
    return adapted


def write_config(
    config: Mapping[str, Any], code_dir: Path, into: Path, run: Path, changes: Iterable[str] = ()
) -> list[str]:
    """Write a configuration for ``main.py``; return the arguments that select it.

    Args:
        config: all sections and their keys.
        code_dir: the folder of ``main.py``.
        into: a folder for the file.
        run: the run's folder.
        changes: overrides; ``model=...`` chooses a file in ``conf/model``.
    """
    sections = {key: _literal(value) for key, value in config.items()}
    model_choice, overrides = [], []
    for change in changes:
        key, _, value = change.partition("=")
        if key == "model":
            model_choice = [{"model": value}]
            for section, defaults in _defaults(code_dir, value).items():
                sections[section] |= defaults
        else:
            overrides.append(readable(change))
    text = {
        "defaults": ["schema", "_self_", *model_choice],
        **sections,
        "hydra": {
            "run": {"dir": str(run)},
            "job": {"chdir": False},
            "output_subdir": None,
            "searchpath": [f"file://{code_dir / 'conf'}"],
        },
    }
    (into / f"{NAME}.yaml").write_text(json.dumps(text), encoding="utf-8")
    return ["--config-path", str(into), "--config-name", NAME, *overrides]


def check_overrides(changes: Iterable[str]) -> None:
    """Check the values of ``--set``.

    Raises:
        PipelineError: A value is not KEY=VALUE, or chooses another data set.
    """
    for word in changes:
        if "=" not in word:
            raise PipelineError(f"--set {word} is not KEY=VALUE", "such as split.test_size=0.3")
        if word.startswith("data="):
            raise PipelineError(
                f"--set {word}: a run with another data set can't start from this run",
                f"use: python main.py {word}",
            )


def _defaults(code_dir: Path, model: str) -> dict[str, dict[str, Any]]:
    """Default values of the keys that a file in ``conf/model`` sets, to replace recorded ones."""
    file = code_dir / "conf" / "model" / f"{model}.yaml"
    if not file.is_file():
        return {}  # Hydra lists the existing files
    all_defaults, model_settings = _sections(code_dir / "config.yaml"), _sections(file)
    is_global = "_global_" in file.read_text(encoding="utf-8")
    sections = model_settings if is_global else {"model": model_settings}
    return {
        section: {key: all_defaults[section][key] for key in keys if key in all_defaults[section]}
        for section, keys in sections.items()
    }


def _sections(file: Path) -> dict[str, dict[str, Any]]:
    """The settings of a configuration file, as they are written there."""
    return cast(dict[str, dict[str, Any]], OmegaConf.to_container(OmegaConf.load(file)))


def _literal(value: Any) -> Any:
    """Escape ``${`` in a resolved value, except references to environment variables."""
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return INTERPOLATION.sub(r"\\\g<0>", value) if isinstance(value, str) else value


def pin_data(run: RunRecord, config: dict[str, Any], reuse_url: bool) -> None:
    """Let a configuration read the bytes that a run downloaded, from a local copy.

    Args:
        run: the run.
        config: its configuration, which is changed in place.
        reuse_url: keep the recorded address if its content is unchanged.

    Raises:
        PipelineError: The artifact is gone from the tracker.
    """
    url = config["data"]["file_url"]
    recorded_sources = [(step, source) for step in run.steps.values() for source in step.sources]
    for step, source in recorded_sources:
        if source["url"] == url and not (reuse_url and _is_unchanged(source)):
            output = next((o for o in step.outputs if o["digest"] == source["digest"]), None)
            if output is None:
                continue  # a custom step that logs other content than it downloaded
            cache_folder = settings.state_dir() / "sources" / output["digest"]
            file = cache_folder / output["name"]
            if not file.exists() or content_digest(file) != output["digest"]:
                with artifact_folder(run, output) as folder:
                    shutil.rmtree(cache_folder, ignore_errors=True)
                    cache_folder.mkdir(parents=True)
                    files = [path for path in folder.rglob("*") if path.is_file()]
                    copy = shutil.copyfile if len(files) == 1 else shutil.copytree
                    copy(files[0] if len(files) == 1 else folder, file)
            config["data"] |= {"file_url": file.as_uri(), "sha256": output["digest"]}
            config["data"] |= {"query": None} if "query" in config["data"] else {}


def _is_unchanged(source: dict[str, Any]) -> bool:
    try:
        return sources.changed(source) is None
    except sources.Unreachable:
        return False


@contextlib.contextmanager
def artifact_folder(run: RunRecord, artifact: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary folder with the files of an artifact that a run recorded.

    Raises:
        PipelineError: The artifact is gone, or its content changed.
    """
    tracker = Tracker(tracking.choose(run.tracker), run.project)
    reference = f"{artifact['name']}:{artifact['version']}"
    with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
        fetched = tracker.fetch(reference, Path(folder))
        if fetched.digest != artifact["digest"]:
            raise PipelineError(
                f"{reference} is not what run {run.id} recorded: its digest was "
                f"{artifact['digest'][:12]} and is {fetched.digest[:12]}",
                "use the store that the run was recorded in; if the artifact was deleted and "
                "logged anew there, its old content is lost",
            )
        yield Path(folder)


def outside_inputs(steps: Mapping[str, StepResult]) -> list[dict[str, Any]]:
    """The input artifacts that none of the steps produced."""
    output_digests = {output["digest"] for step in steps.values() for output in step.outputs}
    inputs = [artifact for step in steps.values() for artifact in step.inputs]
    return [artifact for artifact in inputs if artifact["digest"] not in output_digests]


def log_artifact(artifact: Mapping[str, Any], files: Path, variables: Mapping[str, str]) -> None:
    """Log an artifact to another state folder's store, in a process with its ``variables``."""
    script = (
        "import sys; from pathlib import Path;"
        "from pipeline.core import settings; from pipeline.tracking import Tracker;"
        "tracker = Tracker('trackio', settings.project());"
        "run = tracker.open_run(job_type='recorded', name='recorded', config={});"
        "run.log_artifact(Path(sys.argv[1]), *sys.argv[2:]); run.finish()"
    )
    arguments = [str(files), artifact["name"], artifact["type"]]
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.run(
        command, cwd=ROOT, env=dict(variables), capture_output=True, text=True, check=False
    )
    if process.returncode:
        last_line = (process.stderr.strip().splitlines() or [""])[-1]
        raise PipelineError(f"{artifact['name']} could not be logged again: {last_line}")


def pin_environment(folder: Path, lock: Iterable[str]) -> None:
    """Write a lock's packages into a step's ``conda.yml``.

    A step whose environment already has exactly these packages is left unchanged.
    """
    from pipeline.orchestration.execution import environments

    requirements = [line for line in lock if line and not line.startswith("#")]
    if environments.installed(folder) == requirements:
        return
    path = folder / "conda.yml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    conda_packages = [entry for entry in spec["dependencies"] if isinstance(entry, str)]
    spec["dependencies"] = [*conda_packages, {"pip": requirements}]
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def variables(**additional: str) -> dict[str, str]:
    """Environment variables for a run with a state folder of its own."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key.startswith((secrets.PREFIX, settings.UMASK)) or not key.startswith(NOT_INHERITED)
    }
    return {**inherited, **additional}
