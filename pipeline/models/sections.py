"""Settings of commands: a file of a group in ``conf/``, with overrides from the command line."""

from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config import entry
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.settings import ROOT


def read(group: str, schema: type, overrides: list[str], owner: str) -> Any:
    """Compose a configuration group into an object of its schema.

    Args:
        group: the name of the group, and of its folder in ``conf/``.
        schema: a dataclass.
        overrides: such as ``promotion.margin=0.1``, or ``promotion=NAME`` for another file.
        owner: what the settings belong to, for messages.

    Raises:
        PipelineError: a file, a key or a value is not valid.
    """
    _store(group, schema)
    for override in overrides:
        key = ".".join(override.partition("=")[0].lstrip("+~").split(".")[:2])
        allowed = [group, *(f"{group}.{name}" for name in schema.__dataclass_fields__)]
        if key not in allowed:
            raise PipelineError(
                f"{override!r} is no setting of {owner}{did_you_mean(key, allowed)}",
                f"settings: {', '.join(allowed)}; conf/{group}/default.yaml explains them",
            )
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return OmegaConf.to_object(compose(f"{group}_only", overrides)[group])
    except (HydraException, OmegaConfBaseException) as error:
        raise entry.explain(error) from error


@cache  # Hydra 1.4 warns when a name is stored twice
def _store(group: str, schema: type) -> None:
    """Register the schema, and a configuration of this group alone."""
    store = ConfigStore.instance()
    store.store(name=f"{group}_schema", node=schema, package=group)
    store.store(name=f"{group}_only", node={"defaults": [f"{group}_schema", {group: "default"}]})
