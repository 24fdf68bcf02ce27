"""This pipeline as DVC's files: ``params.yaml``, its configuration, and ``dvc.yaml``, its stages.

A stage for each step that ``go()`` asks for. It runs the same script (:mod:`conversion.dvc_stage`),
and depends on what the step's fingerprint covers: its files, the library files that it imports,
its parameters, and the artifacts that it reads, which are files under ``artifacts``.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conversion.calls import Call, calls
from pipeline.config import entry, overrides, references
from pipeline.config import schema as configuration
from pipeline.config.checks import check
from pipeline.core.errors import PipelineError
from pipeline.core.settings import ROOT
from pipeline.steps.folders import library, step_files

STAGES, PARAMS = "dvc.yaml", "params.yaml"
ARTIFACTS, METRICS = "artifacts", "metrics"
HERE = "{root}"  # in params.yaml, for the address of the repository's folder
RUN_SETTINGS = ("project_name", "experiment_name", "tracker", "tracker_timeout")
HEAD = """\
# Written by export_dvc from the configuration; `export_dvc --force` writes it anew.
"""


def files(overrides: list[str]) -> dict[str, str]:
    """The text of params.yaml and dvc.yaml, for a configuration.

    Args:
        overrides: as they would be given to main.py.

    Raises:
        PipelineError: an override that can't be.
    """
    config = composed(overrides)
    stages = {step: stage(call, keys) for step, (call, keys) in dependencies(config).items()}
    text = json.dumps(OmegaConf.to_container(config, resolve=True))
    values = json.loads(text.replace(ROOT.as_uri(), HERE))
    values["main"] = {name: values["main"][name] for name in RUN_SETTINGS}
    return {
        PARAMS: HEAD + _yaml(values),
        STAGES: HEAD + _yaml({"stages": stages}),
    }


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def composed(words: list[str]) -> DictConfig:
    """The configuration that main.py would have with these overrides."""
    configuration.register()
    try:
        with initialize_config_dir(str(ROOT), version_base="1.3"):
            config = compose("config", overrides.overrides(words))
            references.protect(config)
            check(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise entry.explain(error) from error
    return config


def configured() -> DictConfig:
    """The configuration that params.yaml holds.

    Raises:
        PipelineError: it is not there, or holds a value that can't be.
    """
    file = ROOT / PARAMS
    if not file.is_file():
        raise PipelineError(f"there is no {PARAMS} in {ROOT}", "run export_dvc")
    text = file.read_text(encoding="utf-8").replace(HERE, ROOT.as_uri())
    configuration.register()
    base = OmegaConf.load(ROOT / "config.yaml")
    del base["defaults"], base["hydra"]
    typed = OmegaConf.structured(configuration.structure())
    try:
        config = OmegaConf.merge(typed, base, yaml.safe_load(text))
        references.protect(config)
        check(config)
    except OmegaConfBaseException as error:
        raise PipelineError(f"{PARAMS}: {error}", "correct it, or run export_dvc") from error
    except PipelineError as error:
        raise PipelineError(f"{PARAMS}: {error.what}", error.remedy) from error
    return config


def go() -> Callable:
    """main.py's function, which says what steps there are."""
    spec = importlib.util.spec_from_file_location("main_py", ROOT / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.go


def dependencies(config: DictConfig) -> dict[str, tuple[Call, list[str]]]:
    """Each step that is asked for, and the keys of the configuration that it depends on.

    A step depends on a key if it is asked for in another way when the key has another value.
    """
    function = go()
    asked = calls(function, config)
    found = {step: (call, []) for step, call in asked.items()}
    given = OmegaConf.to_container(config, resolve=True)
    for section in (name for name in given if name != "main"):
        for key, value in given[section].items():
            changed = {**given, section: {**given[section], key: _other(value)}}
            now = calls(function, OmegaConf.create(changed))
            for step, (call, keys) in found.items():
                if step not in now or now[step].parameters != call.parameters:
                    keys.append(f"{section}.{key}")
    return found


def _other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "another"]
    return {**value, "another": 1} if isinstance(value, dict) else f"{value or ''}_another"


def stage(call: Call, keys: list[str]) -> dict[str, Any]:
    """A step as a stage."""
    folder = ROOT / call.step
    code = [*step_files(folder), *library(folder / "script.py")]
    inputs = [f"{ARTIFACTS}/{name.partition(':')[0]}" for name in call.inputs_from.values()]
    return {
        "cmd": f"python -m conversion.dvc_stage {call.step}",
        "deps": [*inputs, *_local_data(call), *(p.relative_to(ROOT).as_posix() for p in code)],
        "params": keys,
        "outs": outputs(call),
        "metrics": [{f"{METRICS}/{call.step}.json": {"cache": False}}],
    }


def outputs(call: Call) -> list[str]:
    """The files and folders that a step's artifacts become."""
    return [f"{ARTIFACTS}/{name}" for name in call.artifacts]


def _local_data(call: Call) -> list[str]:
    """Files on this machine that a step reads by their address."""
    texts = [value for value in call.parameters.values() if isinstance(value, str)]
    found = [unquote(urlsplit(text).path) for text in texts if text.startswith("file:")]
    inside = [Path(path).is_relative_to(ROOT) for path in found]
    return [
        Path(path).relative_to(ROOT).as_posix() if within else path
        for path, within in zip(found, inside, strict=True)
    ]
