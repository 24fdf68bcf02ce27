"""Checks of the composed configuration that types alone can't express.

Each function raises :class:`PipelineError` with the key, its value and the allowed values.
"""

import re
from pathlib import Path
from typing import get_type_hints
from urllib.parse import quote

from omegaconf import DictConfig, OmegaConf

from pipeline.config.schema import Config, all_keys, options, own_sections, unknown_setting
from pipeline.core.data.addresses import PLACES, check_file_url, file_address, is_query
from pipeline.core.errors import PipelineError, did_you_mean, unknown_value
from pipeline.core.metrics import METRICS, TASKS
from pipeline.core.security import secrets
from pipeline.core.settings import REVALIDATE, check_name, check_path

LONGEST_PROJECT = 128  # characters: NAME_MAXLEN in wandb/sdk/artifacts/_validators.py
ENV_MANAGERS = ("uv", "local", "virtualenv", "conda")


def check(config: DictConfig, sweep: bool = False) -> None:
    """Refuse values that have the right type but can't work.

    Args:
        config: the composed configuration.
        sweep: whether the run is a trial of a sweep.
    """
    _check_keys(config)
    _check_main(config.main)
    _check_data(config)
    _check_numbers(config)
    check_measuring(config, sweep)
    _check_names(config)


def resolve_data_path(config: DictConfig) -> None:
    """Replace a path in data.file_url by its absolute address, as each step has its own folder.

    A variable in the path stays a reference; only the folder before it is added.
    """
    if OmegaConf.is_missing(config.data, "file_url"):
        return
    url = config.data.file_url
    address, resolved = file_address(url), secrets.look_up(url)
    if resolved != url and address.startswith("file:") and not url.lower().startswith("file:"):
        if file_address(resolved) == resolved or secrets.has_login(url):
            return  # the variable holds an address, or a part of an address
        folder = "" if Path(resolved).is_absolute() else quote(str(Path.cwd()))
        address = f"file://{folder}/{url}"
    if address != url:
        config.data.file_url = address


def check_measuring(config: DictConfig, sweep: bool) -> None:
    """Refuse an unknown search.metric, and impossible settings for its measurement.

    Args:
        config: the composed configuration.
        sweep: whether the run is a trial, whose metric has to come from training rows.
    """
    metric, model = config.search.metric, config.model
    if metric is not None and metric not in METRICS:
        raise PipelineError(
            f"search.metric={metric!r} is not measured{did_you_mean(metric, METRICS)}",
            f"use one of: {', '.join(METRICS)}",
        )
    if not 0 <= model.validation < 1:
        raise PipelineError(
            f"model.validation={model.validation} is not a share of the training rows",
            "give one such as 0.2, or 0 for none",
        )
    if model.task not in TASKS:
        raise unknown_value("model.task", model.task, TASKS)
    if model.cv is not None and model.cv < 2:
        raise PipelineError(f"model.cv={model.cv} is not two folds or more", "use 5, or null")
    if sweep and not model.validation and model.cv is None:
        raise PipelineError(
            "model.validation=0, and no model.cv: the trials would be compared on the test data",
            "hold out a share of the training rows (0.2), or measure by folds: model.cv=5",
        )


def _check_keys(config: DictConfig) -> None:
    """Refuse keys that nothing reads, such as those added with ``+`` on the command line."""
    for section, kind in get_type_hints(Config).items():
        for key in config[section]:
            if key not in kind.__dataclass_fields__:
                raise unknown_setting(f"{section}.{key}")
    own = own_sections()
    written = set(all_keys()) if own else set()
    for name in config:
        if name not in Config.__dataclass_fields__ and name not in own:
            raise unknown_setting(str(name))
        for key in config[name] if name in own else ():
            if f"{name}.{key}" not in written:
                raise unknown_setting(f"{name}.{key}")


def _check_main(main: DictConfig) -> None:
    for key, choices in (("env_manager", ENV_MANAGERS), ("revalidate", REVALIDATE)):
        if main[key] not in choices:
            raise unknown_value(f"main.{key}", main[key], choices)
    check_path("main.state_dir", Path(main.state_dir).absolute())
    if (main.artifact_root or "").startswith("wasbs:") and main.env_manager != "local":
        raise PipelineError(
            "main.artifact_root is in Azure, whose library the steps' own environments lack",
            "set main.env_manager=local, or let an MLflow server keep the files: docs/azure.md",
        )
    for key, kind in (("dataset", "data set"), ("project_name", "project")):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", main[key]):
            raise PipelineError(
                f"main.{key}={main[key]!r} can't name a {kind}",
                "use letters, digits, dash and underscore",
            )
    if len(main.project_name) > LONGEST_PROJECT:
        raise PipelineError(
            f"main.project_name has {len(main.project_name)} characters: {main.project_name!r}",
            f"W&B takes {LONGEST_PROJECT} at most: shorten it",
        )
    if main.timeout is not None and main.timeout <= 0:
        raise PipelineError(
            f"main.timeout={main.timeout} is not a number of seconds", "use 600, or null"
        )


def _check_data(config: DictConfig) -> None:
    for section, key in (("data", "file_url"), ("model", "target")):
        if OmegaConf.is_missing(config[section], key):
            raise PipelineError(
                f"{section}.{key} is not set",
                f"give it: {section}.{key}=..., or choose a data set: "
                f"data={'|'.join(options('data'))}",
            )
    target = config.model.target
    if not isinstance(target, str) and (
        not OmegaConf.is_list(target)
        or not target
        or not all(isinstance(name, str) for name in target)
        or len(set(target)) < len(target)
    ):
        raise PipelineError(
            f"model.target={target!s} names no columns",
            "give a column, or a list of different ones",
        )
    url, query = config.data.file_url, config.data.query
    if query and not is_query(url, query):
        raise PipelineError(
            f"data.query is for a database, and data.file_url={url!r} is none",
            "give a database's address (postgresql://host/database), or data.query=null",
        )
    # a database's login is moved into a variable
    if secrets.has_login(url) and not is_query(url, query):
        remedy = (
            "its library reads credentials from environment variables: docs/your_own_table.md"
            if url.partition(":")[0].lower() in PLACES
            else "put it into ~/.netrc, which is read for you; a path begins with / or ./"
        )
        raise PipelineError(
            "data.file_url contains a user name or password, which every run would record",
            f"leave it out of the address; {remedy}",
        )
    check_file_url("data.file_url", config.data.file_url)


def _check_numbers(config: DictConfig) -> None:
    if config.main.tracker_timeout < 1:
        raise PipelineError(
            f"main.tracker_timeout={config.main.tracker_timeout} is not a second or more",
            "give the longest wait for an answer of the tracker, such as 60",
        )
    if not 0 < config.split.test_size < 1:
        raise PipelineError(
            f"split.test_size={config.split.test_size} is not between 0 and 1",
            "give the test part's share of the rows, such as 0.2",
        )
    if config.provenance.max_file_mb <= 0:
        raise PipelineError(
            f"provenance.max_file_mb={config.provenance.max_file_mb:g} is not above 0",
            "give the size above which untracked files are refused, such as 10",
        )
    for key, least in (("report.resamples", 1), ("report.mistakes", 0), ("etl.skip_lines", 0)):
        count = OmegaConf.select(config, key)
        if count < least:
            raise PipelineError(f"{key}={count} is too few", f"give {least} or more")


def _check_names(config: DictConfig) -> None:
    if not config.report.artifact_name.endswith(".html"):
        raise PipelineError(
            f"report.artifact_name={config.report.artifact_name!r} does not end in .html",
            "browsers go by the name: use report.html, say",
        )
    check_name("a model in the registry (model.name)", config.model.name)
    names = [
        value
        for section in ("data", "etl", "split", "model", "report")
        for key, value in config[section].items()
        if key.endswith("artifact_name")
    ]
    for name in names:
        check_name("an artifact", name)
        if names.count(name) > 1:
            raise PipelineError(
                f"two artifacts are named {name!r}", "give each *.artifact_name its own name"
            )
