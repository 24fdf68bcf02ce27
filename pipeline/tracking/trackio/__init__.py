"""Trackio as a tracker, its store and its lineage."""
