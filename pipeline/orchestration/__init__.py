"""Runs the steps as MLflow projects: environments, processes, backends, reuse and records."""
