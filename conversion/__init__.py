"""Converts notebooks to scripts, DVC stages and steps of the pipeline.

The commands and the docstring's syntax are those of MLV-tools; docs/notebooks.md describes them. A
run of the pipeline imports nothing from here. The commands' additional requirements are in the
extras ``notebooks`` and ``dvc``.
"""
