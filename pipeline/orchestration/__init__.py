"""Runs the steps: MLflow projects, their environments, processes and backends."""
