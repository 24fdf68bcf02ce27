"""The configuration as ``python main.py`` composes it, in this process."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from pipeline.config import overrides, schema
from tests.support.paths import ROOT


def composed(*words: str) -> DictConfig:
    """The configuration of ``python main.py`` with these words.

    Raises:
        PipelineError: one of the words is not closed.
        HydraException: Hydra can't compose it.
    """
    schema.register()
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        return compose("config", overrides=overrides.overrides(list(words)))
