"""Converts a notebook to a step: a folder with MLproject, conda.yml and script.py."""
