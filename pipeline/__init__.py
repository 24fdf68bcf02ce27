"""The library under ``main.py`` and the steps' scripts.

``main.py`` uses :func:`start`, :func:`run` and :func:`main`, which are loaded on first use; a
step's script imports :mod:`pipeline.step` (and :mod:`pipeline.tables`,
:mod:`pipeline.evaluation`) and gets nothing of Hydra or the orchestrator with it.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

__all__ = ["ROOT", "main", "run", "start"]


def __getattr__(name: str):
    """Load the orchestrator only for those who ask for it (PEP 562)."""
    if name in ("start", "run"):
        from pipeline import runner

        return getattr(runner, name)
    if name == "main":
        from pipeline.app import main

        return main
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
