"""Runs a step as an MLflow project: in its environment, in a worker or on another machine."""
