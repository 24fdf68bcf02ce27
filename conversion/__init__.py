"""Notebooks become scripts, DVC stages and steps of the pipeline.

The commands and the docstring's syntax are those that users of MLV-tools know; docs/notebooks.md
describes them. Nothing here is imported by a run of the pipeline. What the commands need besides
the pipeline's own packages is in the extras ``notebooks`` and ``dvc``.
"""
