"""The library under ``main.py`` and the steps' scripts.

``main.py`` uses :func:`start` and :func:`main`; a step's script imports :mod:`pipeline.steps` and
:mod:`pipeline.science`. ``start`` and ``main`` are loaded on first use, so that a step's process
imports neither Hydra nor the orchestrator.
"""

import warnings
from importlib import import_module
from typing import Any

# Hydra 1.4 and OmegaConf 2.4 warn of these calls, which earlier versions have in no other form
for _call in ("The version_base parameter", "register_new_resolver", "hydra.utils.instantiate"):
    warnings.filterwarnings("ignore", _call)

# __getattr__ makes these names
__all__ = ["main", "start"]  # pyright: ignore[reportUnsupportedDunderAll]

_MODULES = {"main": "pipeline.config.entry", "start": "pipeline.orchestration.start"}


def __getattr__(name: str) -> Any:
    """Load ``main`` or ``start`` (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
