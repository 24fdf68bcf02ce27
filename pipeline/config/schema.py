"""The configuration's schema: the type of each key, and the resolvers that config.yaml uses.

``config.yaml`` holds the defaults and explains each key. The classes here give only the types that
Hydra checks overrides against.
"""

import difflib
import os
import re
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf

from pipeline.config import references
from pipeline.config.job import new_run_id
from pipeline.core.data.addresses import dataset_name, file_suffix
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.settings import DEFAULT_DATASET, DEFAULT_TARGET, ROOT, SWEEP_AGENT, safe_name


@dataclass
class Main:
    """The section ``main`` of ``config.yaml``."""

    dataset: str = MISSING
    project_name: str = MISSING
    experiment_name: str = MISSING
    steps: Any = MISSING
    force: bool = MISSING
    explain: bool = MISSING
    tracker: str = MISSING
    tracker_timeout: float = MISSING
    env_manager: str = MISSING
    backend: str = MISSING
    backend_config: Any = MISSING
    state_dir: str = MISSING
    alert: bool = MISSING
    timeout: float | None = MISSING
    artifact_root: str | None = MISSING
    mlflow_uri: str | None = MISSING
    revalidate: str = MISSING


@dataclass
class Data:
    """The section ``data`` of ``config.yaml``."""

    file_url: str = MISSING
    query: str | None = MISSING
    sha256: str | None = MISSING
    max_bytes: int = MISSING
    timeout: float = MISSING
    retries: int = MISSING
    artifact_name: str = MISSING
    artifact_type: str = MISSING
    artifact_description: str = MISSING


@dataclass
class Etl:
    """The section ``etl`` of ``config.yaml``."""

    sep: str | None = MISSING
    encoding: str | None = MISSING
    skip_lines: int = MISSING
    titles: list[str] = MISSING
    table: str | None = MISSING
    missing: list[str] = MISSING
    usual_missing: list[str] = MISSING
    decimal: str = MISSING
    thousands: str = MISSING
    parse: dict[str, str] = MISSING
    duplicates: str = MISSING
    required: list[Any] | None = MISSING  # an item may be a list of targets
    fill: dict[str, Any] = MISSING
    schema: list[dict[str, Any]] = MISSING
    artifact_name: str = MISSING
    artifact_type: str = MISSING
    artifact_description: str = MISSING


@dataclass
class Split:
    """The section ``split`` of ``config.yaml``."""

    test_size: float = MISSING
    random_state: int = MISSING
    stratify: str | None = MISSING
    method: str = MISSING
    group: str | None = MISSING
    time: str | None = MISSING
    train_artifact_name: str = MISSING
    test_artifact_name: str = MISSING
    artifact_type: str = MISSING
    artifact_description: str = MISSING


@dataclass
class Model:
    """The section ``model`` of ``config.yaml``."""

    target: Any = MISSING
    drop: list[str] = MISSING
    categorical: list[str] = MISSING
    task: str = MISSING
    positive: Any = MISSING
    estimator: Any = MISSING
    params: dict[str, Any] = MISSING
    encode: dict[str, str] = MISSING
    allowed: list[str] = MISSING
    validation: float = MISSING
    cv: int | None = MISSING
    seed: int = MISSING
    learning_curve: bool = MISSING
    name: str = MISSING
    cleaning: dict[str, Any] = MISSING
    artifact_name: str = MISSING
    preprocessor_artifact_name: str = MISSING


@dataclass
class Provenance:
    """The section ``provenance`` of ``config.yaml``."""

    snapshot: bool = MISSING
    max_file_mb: float = MISSING


@dataclass
class Search:
    """The section ``search`` of ``config.yaml``."""

    metric: str | None = MISSING
    refit: bool = MISSING
    space: dict[str, str] = MISSING


@dataclass
class Report:
    """The section ``report`` of ``config.yaml``."""

    allowed: list[str] = MISSING
    identifier: str | None = MISSING
    mistakes: int = MISSING
    resamples: int = MISSING
    random_state: int = MISSING
    costs: dict[str, Any] = MISSING
    previous: str | None = MISSING
    artifact_name: str = MISSING
    artifact_type: str = MISSING
    artifact_description: str = MISSING


@dataclass
class Config:
    """The whole configuration, section by section."""

    main: Main = field(default_factory=Main)
    data: Data = field(default_factory=Data)
    etl: Etl = field(default_factory=Etl)
    split: Split = field(default_factory=Split)
    model: Model = field(default_factory=Model)
    search: Search = field(default_factory=Search)
    report: Report = field(default_factory=Report)
    provenance: Provenance = field(default_factory=Provenance)


def own_sections() -> list[str]:
    """The sections of config.yaml that users added for their own steps; they have no types."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    typed_sections = {"defaults", "hydra", *Config.__dataclass_fields__}
    return [
        name for name in re.findall(r"^(\w+):", text, re.MULTILINE) if name not in typed_sections
    ]


def structure() -> type:
    """The type of the whole configuration."""
    own: list[tuple[str, type, Any]] = [
        (name, dict[str, Any], field(default_factory=dict)) for name in own_sections()
    ]
    return make_dataclass("Config", own, bases=(Config,)) if own else Config


# Keys of earlier versions, and their new names
RENAMED = {
    "data.sep": "etl.sep",
    "data.encoding": "etl.encoding",
    "model.metric": "search.metric",
    "model.space": "search.space",
    "model.timeout": "main.timeout",
}
# Keys of earlier versions without a new name, and what to do instead
REMOVED = {"main.standby": "main.backend=local starts no worker ahead of its step: docs/prefork.md"}


def register() -> None:
    """Register the schema, and the resolvers that config.yaml uses."""
    ConfigStore.instance().store(name="schema", node=structure())
    references.register()
    OmegaConf.register_new_resolver("root", lambda path: str(ROOT / path), replace=True)
    OmegaConf.register_new_resolver("root_url", lambda path: (ROOT / path).as_uri(), replace=True)
    by_agent = bool(os.environ.get(SWEEP_AGENT))  # read now: no step inherits it
    in_sweep = partial(_in_sweep, by_agent=by_agent)
    OmegaConf.register_new_resolver("in_sweep", in_sweep, replace=True)
    OmegaConf.register_new_resolver("safe_name", safe_name, replace=True)
    for function in (_dataset, _separator, _raw_name, _table_name, _model_name, _own_name):
        name = function.__name__.removeprefix("_")
        OmegaConf.register_new_resolver(name, function, replace=True)
    OmegaConf.register_new_resolver("run_id", new_run_id, replace=True, use_cache=True)


def _in_sweep(value: float, *, by_agent: bool) -> float:
    """The value in a trial of a sweep; 0 in a single run."""
    if HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        return value
    return value if by_agent else 0.0


def _url(root: DictConfig) -> str:
    return "" if OmegaConf.is_missing(root.data, "file_url") else str(root.data.file_url)


def _dataset(*, _root_: DictConfig) -> str:
    """The name of the data set, from its address."""
    return dataset_name(_url(_root_))


def _separator(*, _root_: DictConfig) -> str:
    """The separator of a text file, from its suffix."""
    return "\\t" if re.match(r"\.(tsv|tab)\b", file_suffix(_url(_root_))) else ","


def _raw_name(*, _root_: DictConfig) -> str:
    """The name of the raw artifact: the data set's name with its file's suffix."""
    return f"{_root_.main.dataset}{file_suffix(_url(_root_), _root_.data.query)}"


def _table_name(usual: str, part: str, *, _root_: DictConfig) -> str:
    """The name of a table's artifact: ``usual`` for the default data set, else DATASET-PART.csv."""
    dataset = _root_.main.dataset
    return usual if dataset == DEFAULT_DATASET else f"{dataset}-{part}.csv"


def _model_name(*, _root_: DictConfig) -> str:
    """A model's name: the data set (or the project, if it is the default one) and the target."""
    main = _root_.main
    first = main.project_name if main.dataset == DEFAULT_DATASET else main.dataset
    return safe_name(f"{first}-{_joined(_root_.model.target)}")


def _joined(value: Any) -> str:
    """One name, or several joined by dots, as W&B allows no ``+`` in a name."""
    return value if isinstance(value, str) else ".".join(map(str, value))


def _own_name(usual: str, own: str, *, _root_: DictConfig) -> str:
    """The name of an artifact: ``usual`` for the default data set and target, else ``own``.

    So each model has its own collection of versions, in which an alias names one version.
    """
    if (_root_.main.dataset, _root_.model.target) == (DEFAULT_DATASET, DEFAULT_TARGET):
        return usual
    return safe_name(own, usual)


def all_keys() -> list[str]:
    """Every key of config.yaml, dotted."""
    tree = cast("DictConfig", OmegaConf.load(ROOT / "config.yaml"))
    sections = (*Config.__dataclass_fields__, *own_sections())
    return [f"{section}.{key}" for section in sections for key in tree[section] or ()]


def current_name(key: str) -> str:
    """The current name of a dotted key, which may lie below a renamed key."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            return key.replace(old, new, 1)
    return key


GROUPS, PARAMS = ("data", "model"), "model.params."


def unknown_setting(key: str) -> PipelineError:
    """The error for a key that config.yaml does not have."""
    if key in REMOVED:
        return PipelineError(f"there is no setting {key!r} any more", REMOVED[key])
    new = current_name(key)
    if new != key:
        return PipelineError(
            f"the setting {key!r} is now called {new!r}",
            "use the new name; config.yaml explains it",
        )
    if "." not in key and (near := did_you_mean(key, GROUPS)):
        files = "; ".join(f"{group}={'|'.join(options(group))}" for group in GROUPS)
        return PipelineError(f"there is no setting {key!r}{near}", f"files to choose: {files}")
    if key.startswith(PARAMS):
        name = key.removeprefix(PARAMS)
        return PipelineError(
            f"the file of conf/model sets no parameter {name!r}{did_you_mean(name, _parameters())}",
            f"to add another parameter of the estimator, write a plus: +{key}=VALUE",
        )
    return PipelineError(
        f"there is no setting {key!r}{_nearest(key)}", "python main.py --help lists every setting"
    )


def _nearest(key: str) -> str:
    """``" (did you mean 'x'?)"`` for the nearest setting, from the key's section if it has one."""
    section, _, name = key.partition(".")
    prefix = f"{section}."
    names = [setting.removeprefix(prefix) for setting in all_keys() if setting.startswith(prefix)]
    if not names:
        return did_you_mean(key, all_keys())
    near = difflib.get_close_matches(name.partition(".")[0], names, n=1, cutoff=0.6)
    return f" (did you mean '{prefix}{near[0]}'?)" if near else ""


def _parameters() -> list[str]:
    """The estimator parameters that files in conf/model set."""
    files = (OmegaConf.load(path) for path in sorted((ROOT / "conf" / "model").glob("*.yaml")))
    settings = (OmegaConf.select(file, "model.params") for file in files)
    return [*dict.fromkeys(str(name) for params in settings if params for name in params)]


def file_of(key: str) -> str:
    """The file that explains a setting: config.yaml, or the default of a group."""
    default = Path("conf", key.partition(".")[0], "default.yaml")
    return str(default) if (ROOT / default).is_file() else "config.yaml"


def options(group: str) -> list[str]:
    """The names of a config group's files."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def plain(value: Any) -> Any:
    """A value of the configuration as plain lists and dictionaries."""
    if value is None or isinstance(value, str | int | float | dict | list):
        return value
    return OmegaConf.to_container(value, resolve=True)
