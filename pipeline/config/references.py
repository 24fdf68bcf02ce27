"""Settings from the environment, and secrets in settings: see :mod:`pipeline.core.secrets`."""

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

from pipeline.core import secrets
from pipeline.core.errors import PipelineError

ORCHESTRATOR = ("hydra", "main", "provenance", "search")  # sections that are no step's
NAMES = ("name", "type", "target")  # ends of keys that the orchestrator itself reads in a step's
# Mappings whose keys are a user's columns or an estimator's parameters
FOREIGN = ("etl.fill", "etl.parse", "etl.schema", "model.cleaning", "model.params", "search.space")
NUMBERS = (BooleanNode, EnumNode, FloatNode, IntegerNode)
_recording: ContextVar[bool] = ContextVar("recording", default=False)


def register() -> None:
    """Have ``${oc.env:NAME}`` in a step's settings resolved by the step, not before."""
    OmegaConf.register_new_resolver("oc.env", _env, replace=True)
    OmegaConf.register_new_resolver("oc.decode", _decode, replace=True)


def _env(key: str, *default: Any, _parent_: Any, _node_: Node) -> str | None:
    is_set = oc.env(key, None) is not None
    if is_set and not isinstance(_node_, NUMBERS) and _is_handed_on(_parent_, _node_):
        return secrets.reference(key)
    return oc.env(key, *default)


def _is_handed_on(parent: Any, node: Node) -> bool:
    """Whether a setting is recorded now, or is one of a step's that only the step reads."""
    section = parent._get_full_key(None).partition(".")[0]  # noqa: SLF001 - OmegaConf's, for resolvers
    if section == "hydra":
        return False
    if _recording.get():
        return True
    name = str(node._key())  # noqa: SLF001 - OmegaConf's, for resolvers
    return section not in ORCHESTRATOR and not name.endswith(NAMES)


def _decode(text: str | None, _parent_: Any, _node_: Node) -> Any:
    """OmegaConf's own; what comes to text stays a reference."""
    resolved = secrets.resolve(text)
    value = oc.decode(resolved, _parent_, _node_)
    return text if isinstance(value, str) and resolved != text else value


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Have all settings from the environment given as references."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def recorded(config: DictConfig) -> dict[str, Any]:
    """The configuration as it is stored and shown: resolved, but for what is from the environment.

    Args:
        config: the composed configuration, whose secrets were moved by :func:`protect`.
    """
    with recording():
        return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))


def protect(config: DictConfig) -> None:
    """Move secrets that stand in a configuration into environment variables.

    Raises:
        PipelineError: a setting refers to a variable or to another setting that is not there.
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
        kept = secrets.keep(key, text)
        if kept != text:
            with read_write(config), open_dict(config):
                OmegaConf.update(config, key, kept)


def _unresolved(error: InterpolationResolutionError) -> PipelineError:
    missing = re.search(r"Environment variable '(\w+)' not found", str(error))
    if missing and missing[1].startswith(secrets.PREFIX):
        return PipelineError(
            f"{error.full_key} was given with a secret, which is not recorded",
            f"give it anew, or set {missing[1]} to the secret",
        )
    if missing:
        return PipelineError(
            f"{error.full_key} needs the environment variable {missing[1]}, which is not set",
            f"set it, or give a default: ${{oc.env:{missing[1]},default}}",
        )
    return PipelineError(str(error).partition("\n")[0], "config.yaml has every setting")


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in a section, by its dotted key; not those of foreign mappings.

    A number is one, too, where a key looks like a secret's.
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
    """Overrides with references in place of their secrets, which are moved like :func:`protect`'s.

    Hydra, which keeps the words and hands them to a sweep's trials, then never has a secret.
    """
    kept = []
    for word in words:
        key, equals, value = word.partition("=")
        name = key.lstrip("+~")
        if equals and not name.startswith(FOREIGN):
            value = secrets.keep(name, value)
        kept.append(f"{key}{equals}{value}")
    return kept
