"""The library under ``main.py`` and the steps' scripts.

``main.py`` uses :func:`start`, :func:`run`, :func:`within` and :func:`main`, which are loaded on
first use; a step's script imports :mod:`pipeline.step` (and :mod:`pipeline.tables`,
:mod:`pipeline.evaluation`) and gets nothing of Hydra or the orchestrator with it.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

__all__ = ["ROOT", "main", "run", "start", "within"]


_ORCHESTRATOR = {"start": "current", "run": "current", "within": "current", "main": "again"}


def __getattr__(name: str) -> Any:
    """Load the orchestrator only for those who ask for it (PEP 562)."""
    if name not in _ORCHESTRATOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ORCHESTRATOR[name]}"), name)
