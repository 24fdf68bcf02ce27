"""The records of runs and of their files, as MLflow stores them."""
