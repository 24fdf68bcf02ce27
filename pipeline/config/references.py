"""References to variables in settings, and secrets: :mod:`pipeline.core.security.secrets`."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any, cast

from omegaconf import (
    BooleanNode,
    DictConfig,
    EnumNode,
    FloatNode,
    IntegerNode,
    Node,
    OmegaConf,
    open_dict,
    read_write,
)
from omegaconf.errors import InterpolationResolutionError
from omegaconf.resolvers import oc

from pipeline.core.errors import PipelineError
from pipeline.core.security import secrets

ORCHESTRATOR = ("hydra", "main", "provenance", "search")  # sections that belong to no step
NAMES = ("name", "type", "target")  # ends of step keys that the orchestrator reads, too
# Mappings whose keys are a user's columns or an estimator's parameters
FOREIGN = ("etl.fill", "etl.parse", "etl.schema", "model.cleaning", "model.params", "search.space")
PARAMS = "hydra.sweeper.params"  # parameters of a sweep's trials, beside the overrides
NUMBERS = (BooleanNode, EnumNode, FloatNode, IntegerNode)
_values: dict[str, str] = {}  # values of resolved variables, with their references
_recording: ContextVar[bool] = ContextVar("recording", default=False)


def register() -> None:
    """Keep ``${oc.env:NAME}`` in a step's settings as a reference, which the step resolves."""
    OmegaConf.register_new_resolver("oc.env", _env, replace=True)
    OmegaConf.register_new_resolver("oc.decode", _decode, replace=True)


def _env(key: str, *default: Any, _parent_: Any, _node_: Node) -> str | None:
    is_set = oc.env(key, None) is not None
    if key.startswith(secrets.PREFIX) and _parent_._get_full_key(None) == PARAMS:  # noqa: SLF001
        return secrets.reference(key)  # it becomes a trial's override
    if is_set and not isinstance(_node_, NUMBERS) and _is_handed_on(_parent_, _node_):
        return secrets.reference(key)
    value = oc.env(key, *default)
    if value and is_set:
        _values[value] = secrets.reference(key)
    return secrets.look_up(value) if value and key.startswith(secrets.PREFIX) else value


def hidden(text: str) -> str:
    """An error's text with references in place of the quoted values of variables."""
    for value, reference in _values.items():
        text = text.replace(repr(value), repr(reference)).replace(f"'{value}'", repr(reference))
    return text


def _is_handed_on(parent: Any, node: Node) -> bool:
    """Whether a setting stays a reference: it is being recorded, or only its step reads it."""
    section = parent._get_full_key(None).partition(".")[0]  # noqa: SLF001 - OmegaConf's, for resolvers
    if section == "hydra":
        return False
    if _recording.get():
        return True
    name = str(node._key())  # noqa: SLF001 - OmegaConf's, for resolvers
    return section not in ORCHESTRATOR and not name.endswith(NAMES)


def _decode(text: str | None, _parent_: Any, _node_: Node) -> Any:
    """OmegaConf's ``oc.decode``, but a value that is text stays a reference."""
    resolved = secrets.resolve(text)
    value = oc.decode(resolved, _parent_, _node_)
    return text if isinstance(value, str) and resolved != text else value


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Keep all settings from the environment as references within a block."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def recorded(config: DictConfig) -> dict[str, Any]:
    """The configuration for records: resolved, except for references to the environment.

    Args:
        config: the composed configuration, without secrets: see :func:`protect`.
    """
    with recording():
        return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))


def protect(config: DictConfig) -> None:
    """Move the secrets of a configuration into environment variables.

    Raises:
        PipelineError: a setting refers to a missing variable or setting.
    """
    try:
        texts = [
            (key, text)
            for section in config
            if section != "hydra"
            for key, text in _texts(config[section], str(section))
        ]
    except InterpolationResolutionError as error:
        raise _unresolved(error) from error
    for key, text in texts:
        protected = secrets.move_to_environment(key, text)
        if protected != text:
            with read_write(config), open_dict(config):
                OmegaConf.update(config, key, protected)


def protect_sweep(config: DictConfig) -> None:
    """Move the secrets of Hydra's own sweep settings, which Hydra stores in multirun.yaml.

    Args:
        config: the composed configuration, with Hydra's section.
    """
    protect(config)
    with read_write(config.hydra), open_dict(config.hydra):
        for path in (PARAMS, "hydra.sweeper", "hydra.job.env_set"):
            section = OmegaConf.select(config, path) or {}
            for name in section:  # a name may have dots
                with contextlib.suppress(InterpolationResolutionError):  # Hydra reports it
                    text = section[name]
                    if isinstance(text, str) and not name.startswith(FOREIGN):
                        protected = secrets.move_to_environment(f"{path}.{name}", text)
                        if protected != text:  # else a reference to a setting stays
                            section[name] = protected


def _unresolved(error: InterpolationResolutionError) -> PipelineError:
    missing = re.search(r"Environment variable '(\w+)' not found", str(error))
    if missing and missing[1].startswith(secrets.PREFIX):
        return PipelineError(
            f"{error.full_key} was given with a secret, which is not recorded",
            f"give it again, or set {missing[1]} to the secret",
        )
    if missing:
        return PipelineError(
            f"{error.full_key} needs the environment variable {missing[1]}, which is not set",
            f"set it, or give a default: ${{oc.env:{missing[1]},default}}",
        )
    message = str(error).partition("\n")[0]
    if outside := re.match(r"While dereferencing interpolation '(.*\boc\..*?)': ", message):
        kind = re.search(r"converted to (\w+)$", message)
        return PipelineError(
            f"{error.full_key}={outside[1]} has no value that can be used here"
            f"{f' (of type {kind[1]})' if kind else ''}",
            "check the variable; config.yaml explains the setting",
        )
    return PipelineError(message, "config.yaml has every setting")


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text of a section, by dotted key, except in foreign mappings.

    A number is included if its key looks like that of a secret.
    """
    if key.startswith(FOREIGN):
        return
    if OmegaConf.is_dict(value) or OmegaConf.is_list(value):
        for name in value if OmegaConf.is_dict(value) else range(len(value)):
            if not OmegaConf.is_missing(value, name):
                yield from _texts(value[name], f"{key}.{name}")
    elif isinstance(value, str) or (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and any(map(secrets.is_secret, key.split(".")[1:]))
    ):
        yield key, str(value)


def protect_words(words: Iterable[str]) -> list[str]:
    """Overrides with references in place of secrets, which are moved as by :func:`protect`.

    So the overrides that Hydra stores and passes to a sweep's trials hold no secrets.
    """
    protected_words = []
    for word in words:
        key, equals, value = word.partition("=")
        name = key.lstrip("+~")
        if equals and not name.startswith(FOREIGN):
            value = secrets.move_to_environment(name, value)
        protected_words.append(f"{key}{equals}{value}")
    return protected_words
