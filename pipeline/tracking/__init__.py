"""Trackers: where runs, metrics and artifacts are recorded.

Two implementations, Trackio (local, the default) and W&B, behind two small interfaces:
:class:`Tracker`, a project in a tracker, and :class:`TrackerRun`, a run in it. :func:`choose`
resolves ``main.tracker`` to one of the two.
"""

from pipeline.tracking.choice import choose, notice
from pipeline.tracking.interface import Artifact, Chart, TrackerRun, files_of, is_table
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.wandb.agent import RequestedRun

__all__ = [
    "Artifact",
    "Chart",
    "RequestedRun",
    "Tracker",
    "TrackerRun",
    "choose",
    "files_of",
    "is_table",
    "notice",
]
