"""A recorded run laid out again: its code, its configuration, its data and its environments."""

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
from typing import Any

import yaml
from omegaconf import OmegaConf

from pipeline import tracking
from pipeline.cache import sources
from pipeline.cache.finished import Cache
from pipeline.config.overrides import readable
from pipeline.config.schema import RENAMED
from pipeline.core import observations, secrets, settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import content_digest
from pipeline.core.results import StepResult
from pipeline.core.settings import ROOT
from pipeline.core.text import say
from pipeline.history.records import RunRecord
from pipeline.provenance import snapshot
from pipeline.provenance.git import GitError, Repository
from pipeline.tracking import Tracker

NAME = "recorded"  # of the configuration file
INTERPOLATION = re.compile(r"\$\{(?!oc\.env:)")
# What names a store, a run or a project; a run that goes into a state of its own has none of it
ELSEWHERE = ("PIPELINE_", "TRACKIO_", "WANDB_", "MLFLOW_TRACKING_", "MLFLOW_RUN_", "MLFLOW_EXP")


@contextlib.contextmanager
def code_folder(run: RunRecord) -> Iterator[Path]:
    """The folder with the code that made a run's results, for as long as it is needed.

    A run of which every step was handed on has none of its own; then it is the code of the newest
    of the runs that made them, as long as all the steps' files are in it as they were.

    Raises:
        PipelineError: it is not in this repository, or in no single snapshot.
    """
    try:
        own = Repository(ROOT).commit(f"{snapshot.REFS}/{run.id}")
    except GitError as error:
        raise PipelineError(
            f"the code of run {run.id} can't be looked up: {error.what}",
            f"do this in a clone of the repository that it was made in (here: {ROOT})",
        ) from error
    makers = sorted({step.pipeline_run for step in run.steps.values() if step.pipeline_run})
    found = [run.id] if own or not makers else makers[::-1]
    others = []
    for maker in found:
        repository, commit = snapshot.find(ROOT, maker)
        with repository.worktree(commit) as folder:
            others = [] if own else _foreign(folder, run)
            if not others:
                handed_on = "" if maker == run.id else f", of run {maker}, which made its steps"
                say(f"code: {commit[:12]}{handed_on}", flush=True)
                yield folder
                return
    raise PipelineError(
        f"run {run.id} handed on what several runs made with different code ({', '.join(found)}), "
        f"and no snapshot has all of it: {', '.join(others[:5])}",
        "reproduce one of these runs instead, or use today's code: --code current",
    )


def _foreign(folder: Path, run: RunRecord) -> list[str]:
    """The files of a run's steps that are different in this code, as far as they are known."""
    different = set()
    for step in run.steps.values():
        if record := Cache(settings.state_dir()).find(step):
            for file, then in record.evidence.proof[observations.CODE].items():
                if observations.observe_code(folder / file, then) != then:
                    different.add(file)
    return sorted(different)


def results(run: RunRecord) -> dict[str, StepResult]:
    """The steps of which the run has results: made by it, or handed on whole.

    Raises:
        PipelineError: there is nothing that could be compared.
    """
    if run.status != "finished":
        raise PipelineError(
            f"run {run.id} did not finish ({run.status}), so there is nothing to compare with",
            "go on from it instead: --code current, --data latest or --set KEY=VALUE",
        )
    return {name: step for name, step in run.steps.items() if step.status in ("ran", "cached")}


def adapt_config(recorded: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A recorded configuration for other code: without what that lacks, with what is new in it."""
    known = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    adapted = {
        section: {key: recorded.get(section, {}).get(key, default) for key, default in keys.items()}
        for section, keys in known.items()
        if section not in ("defaults", "hydra")
    }
    for old, new in RENAMED.items():
        (section, key), (new_section, new_key) = old.split("."), new.split(".")
        if key in recorded.get(section, {}) and new_key not in recorded.get(new_section, {}):
            adapted[new_section][new_key] = recorded[section][key]
    return adapted


def write_config(
    config: Mapping[str, Any], code: Path, into: Path, run: Path, changes: Iterable[str] = ()
) -> list[str]:
    """Write a configuration for ``main.py``; the words that make it use it.

    Args:
        config: all sections and their keys.
        code: the folder of ``main.py``.
        into: a folder for the file.
        run: the run's folder.
        changes: overrides; ``model=...`` chooses a file in ``conf/model``.
    """
    given = {key: _literal(value) for key, value in config.items()}
    chosen, words = [], []
    for change in changes:
        key, _, value = change.partition("=")
        if key == "model":
            chosen = [{"model": value}]
            for section, defaults in _defaults(code, value).items():
                given[section] |= defaults
        else:
            words.append(readable(change))
    text = {
        "defaults": ["schema", "_self_", *chosen],
        **given,
        "hydra": {
            "run": {"dir": str(run)},
            "job": {"chdir": False},
            "output_subdir": None,
            "searchpath": [f"file://{code / 'conf'}"],
        },
    }
    (into / f"{NAME}.yaml").write_text(json.dumps(text), encoding="utf-8")
    return ["--config-path", str(into), "--config-name", NAME, *words]


def check_overrides(changes: Iterable[str]) -> None:
    """Refuse what can't change a recorded configuration.

    Raises:
        PipelineError: it is no setting with a value, or another data set.
    """
    for word in changes:
        if "=" not in word:
            raise PipelineError(f"--set {word} is not KEY=VALUE", "such as split.test_size=0.3")
        if word.startswith("data="):
            raise PipelineError(
                f"--set {word}: another data set is another beginning",
                f"use: python main.py {word}",
            )


def _defaults(code: Path, model: str) -> dict[str, dict[str, Any]]:
    """The defaults of what a file in ``conf/model`` sets, so that it is not merged with others."""
    file = code / "conf" / "model" / f"{model}.yaml"
    if not file.is_file():
        return {}  # Hydra says which there are
    every = OmegaConf.to_container(OmegaConf.load(code / "config.yaml"))
    own = OmegaConf.to_container(OmegaConf.load(file))
    sections = own if "_global_" in file.read_text(encoding="utf-8") else {"model": own}
    return {
        section: {key: every[section][key] for key in keys if key in every[section]}
        for section, keys in sections.items()
    }


def _literal(value: Any) -> Any:
    """A resolved value, in which ``${`` is no interpolation, but for environment variables."""
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return INTERPOLATION.sub(r"\\\g<0>", value) if isinstance(value, str) else value


def pin_data(run: RunRecord, config: dict[str, Any], again: bool) -> None:
    """Let a configuration read the very bytes that a run downloaded, from a file of ours.

    Args:
        run: the run.
        config: its configuration, which is changed.
        again: whether the address may be used as long as it still gives those bytes.

    Raises:
        PipelineError: the tracker does not have them any more.
    """
    url = config["data"]["file_url"]
    known = [(step, source) for step in run.steps.values() for source in step.sources]
    for step, source in known:
        if source["url"] == url and not (again and _same(source)):
            output = next((o for o in step.outputs if o["digest"] == source["digest"]), None)
            if output is None:
                continue  # a step of a user's, which keeps something else than what it read
            place = settings.state_dir() / "sources" / output["digest"]
            file = place / output["name"]
            if not file.exists() or content_digest(file) != output["digest"]:
                with artifact_folder(run, output) as folder:
                    shutil.rmtree(place, ignore_errors=True)
                    place.mkdir(parents=True)
                    files = [path for path in folder.rglob("*") if path.is_file()]
                    copy = shutil.copyfile if len(files) == 1 else shutil.copytree
                    copy(files[0] if len(files) == 1 else folder, file)
            config["data"] |= {"file_url": file.as_uri(), "sha256": output["digest"]}
            config["data"] |= {"query": None} if "query" in config["data"] else {}


def _same(source: dict[str, Any]) -> bool:
    try:
        return sources.changed(source) is None
    except sources.Unreachable:
        return False


@contextlib.contextmanager
def artifact_folder(run: RunRecord, artifact: Mapping[str, Any]) -> Iterator[Path]:
    """A folder with an artifact's files, as a run recorded it, for as long as they are needed.

    Raises:
        PipelineError: it is gone, or its content is not what it was.
    """
    tracker = Tracker(tracking.choose(run.tracker), run.project)
    reference = f"{artifact['name']}:{artifact['version']}"
    with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
        found = tracker.fetch(reference, Path(folder))
        if found.digest != artifact["digest"]:
            raise PipelineError(
                f"{reference} is not what run {run.id} recorded: its digest was "
                f"{artifact['digest'][:12]} and is {found.digest[:12]}",
                "it was removed and made again, or this is another store",
            )
        yield Path(folder)


def outside_inputs(steps: Mapping[str, StepResult]) -> list[dict[str, Any]]:
    """What the steps read and none of them made."""
    made = {output["digest"] for step in steps.values() for output in step.outputs}
    read = [artifact for step in steps.values() for artifact in step.inputs]
    return [artifact for artifact in read if artifact["digest"] not in made]


def log_artifact(artifact: Mapping[str, Any], files: Path, variables: Mapping[str, str]) -> None:
    """Log an artifact to the store of a state that is not ours, so that a step finds it there."""
    script = (
        "import sys; from pathlib import Path;"
        "from pipeline.core import settings; from pipeline.tracking import Tracker;"
        "tracker = Tracker('trackio', settings.project());"
        "run = tracker.open_run(job_type='recorded', name='recorded', config={});"
        "run.log_artifact(Path(sys.argv[1]), *sys.argv[2:]); run.finish()"
    )
    words = [str(files), artifact["name"], artifact["type"]]
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(
        command, cwd=ROOT, env=dict(variables), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise PipelineError(f"{artifact['name']} could not be laid out again: {last}")


def pin_environment(folder: Path, lock: Iterable[str]) -> None:
    """Let a step's environment hold exactly the packages of a lock.

    An environment that exists and does so already is left to be used.
    """
    from pipeline.orchestration.execution import environments

    wanted = [line for line in lock if line and not line.startswith("#")]
    if environments.installed(folder) == wanted:
        return
    path = folder / "conda.yml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    kept = [entry for entry in spec["dependencies"] if isinstance(entry, str)]
    spec["dependencies"] = [*kept, {"pip": wanted}]
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def variables(**more: str) -> dict[str, str]:
    """This process's variables for a run in a state of its own."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key.startswith((secrets.PREFIX, settings.UMASK)) or not key.startswith(ELSEWHERE)
    }
    return {**kept, **more}
