"""How a step runs: as an MLflow project, in its environment, in a worker or elsewhere."""
