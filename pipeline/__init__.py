"""The library under ``main.py`` and the steps' scripts.

``main.py`` uses :func:`start`, :func:`run`, :func:`within` and :func:`main`, which are loaded on
first use; a step's script imports :mod:`pipeline.step` (and :mod:`pipeline.tables`,
:mod:`pipeline.evaluation`) and gets nothing of Hydra or the orchestrator with it.
"""

from importlib import import_module
from typing import Any

__all__ = ["main", "run", "start", "within"]


_ORCHESTRATOR = {
    "start": "orchestration.run",
    "run": "orchestration.run",
    "within": "orchestration.run",
    "main": "orchestration.again",
}


def __getattr__(name: str) -> Any:
    """Load the orchestrator only for those who ask for it (PEP 562)."""
    if name not in _ORCHESTRATOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ORCHESTRATOR[name]}"), name)
