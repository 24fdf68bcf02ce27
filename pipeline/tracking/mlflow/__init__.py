"""MLflow's store, models and registry."""
