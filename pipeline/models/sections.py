"""Settings of commands: a file of a group in ``conf/``, and what the command line puts over it."""

from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.config import entry
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.settings import ROOT


def read(group: str, schema: type, overrides: list[str], of: str) -> Any:
    """A section as an object of its schema.

    Args:
        group: its name, and that of its folder in ``conf/``.
        schema: a dataclass.
        overrides: such as ``promotion.margin=0.1``, or ``promotion=NAME`` for another file.
        of: what has these settings, for messages.

    Raises:
        PipelineError: a file, key or value that can't be.
    """
    store = ConfigStore.instance()
    store.store(name=f"{group}_schema", node=schema, package=group)
    store.store(name=f"{group}_only", node={"defaults": [f"{group}_schema", {group: "default"}]})
    for override in overrides:
        key = ".".join(override.partition("=")[0].lstrip("+~").split(".")[:2])
        known = [group, *(f"{group}.{name}" for name in schema.__dataclass_fields__)]
        if key not in known:
            raise PipelineError(
                f"{override!r} is no setting of {of}{did_you_mean(key, known)}",
                f"they are: {', '.join(known)}; conf/{group}/default.yaml says what they mean",
            )
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return OmegaConf.to_object(compose(f"{group}_only", overrides)[group])
    except (HydraException, OmegaConfBaseException) as error:
        raise entry.explain(error) from error
