"""Exports this pipeline to DVC: its configuration to ``params.yaml``, its steps to ``dvc.yaml``.

Each step that ``go()`` calls becomes a stage. The stage runs the same script
(:mod:`conversion.dvc_stage`) and depends on all that the step's fingerprint covers: its files, the
library files that it imports, its parameters, and its input artifacts, as files in ``artifacts``.
"""

import json
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conversion.step_calls import Call, record_calls
from pipeline.config import entry, overrides, references
from pipeline.config import schema as configuration
from pipeline.config.checks import check
from pipeline.core.errors import PipelineError
from pipeline.core.settings import ROOT
from pipeline.steps.folders import library, step_files

STAGES, PARAMS = "dvc.yaml", "params.yaml"
ARTIFACTS, METRICS = "artifacts", "metrics"
HERE = "{root}"  # placeholder in params.yaml for the address of the repository's folder
RUN_SETTINGS = ("project_name", "experiment_name", "tracker", "tracker_timeout")
HEAD = """\
# Written by export_dvc from the configuration; `export_dvc --force` updates it.
"""


def files(overrides: list[str]) -> dict[str, str]:
    """The text of params.yaml and dvc.yaml, for a configuration.

    Args:
        overrides: overrides of main.py.

    Raises:
        PipelineError: an override is invalid.
    """
    config = compose_config(overrides)
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


def compose_config(arguments: list[str]) -> DictConfig:
    """The configuration of main.py with these overrides."""
    configuration.register()
    try:
        with initialize_config_dir(str(ROOT), version_base="1.3"):
            config = compose("config", overrides.overrides(arguments))
            references.protect(config)
            check(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise entry.explain(error) from error
    return config


def read_config() -> DictConfig:
    """The configuration in params.yaml.

    Raises:
        PipelineError: the file is missing or holds an invalid value.
    """
    file = ROOT / PARAMS
    if not file.is_file():
        raise PipelineError(f"there is no {PARAMS} in {ROOT}", "run export_dvc")
    text = file.read_text(encoding="utf-8").replace(HERE, ROOT.as_uri())
    configuration.register()
    base = cast(DictConfig, OmegaConf.load(ROOT / "config.yaml"))
    del base["defaults"], base["hydra"]
    typed = OmegaConf.structured(configuration.structure())
    try:
        config = cast(DictConfig, OmegaConf.merge(typed, base, yaml.safe_load(text)))
        references.protect(config)
        check(config)
    except OmegaConfBaseException as error:
        raise PipelineError(f"{PARAMS}: {error}", "correct it, or run export_dvc") from error
    except PipelineError as error:
        raise PipelineError(f"{PARAMS}: {error.what}", error.remedy) from error
    return config


def main_function() -> Callable:
    """Import main.py's function ``go``, which calls the steps."""
    loader = SourceFileLoader("main_py", str(ROOT / "main.py"))
    module = ModuleType(loader.name)
    loader.exec_module(module)
    return module.go


def dependencies(config: DictConfig) -> dict[str, tuple[Call, list[str]]]:
    """Each step's call, and the configuration keys that it depends on.

    A step depends on a key if another value of the key changes the step's call.
    """
    function = main_function()
    base_calls = record_calls(function, config)
    steps = {step: (call, []) for step, call in base_calls.items()}
    base = cast(dict[str, dict[str, Any]], OmegaConf.to_container(config, resolve=True))
    for section in (name for name in base if name != "main"):
        for key, value in base[section].items():
            variant = {**base, section: {**base[section], key: _other(value)}}
            new_calls = record_calls(function, OmegaConf.create(variant))
            for step, (call, keys) in steps.items():
                if step not in new_calls or new_calls[step].parameters != call.parameters:
                    keys.append(f"{section}.{key}")
    return steps


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
    """A step's entry in dvc.yaml."""
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
    """The paths of a step's output artifacts."""
    return [f"{ARTIFACTS}/{name}" for name in call.artifacts]


def _local_data(call: Call) -> list[str]:
    """The local files in a step's parameters (``file:`` addresses), relative to the checkout."""
    texts = [value for value in call.parameters.values() if isinstance(value, str)]
    paths = [unquote(urlsplit(text).path) for text in texts if text.startswith("file:")]
    are_inside = [Path(path).is_relative_to(ROOT) for path in paths]
    return [
        Path(path).relative_to(ROOT).as_posix() if is_inside else path
        for path, is_inside in zip(paths, are_inside, strict=True)
    ]
