"""Repeats a recorded run, and compares what it made."""
