"""The four steps as MLflow projects, one after the other, as in a tutorial."""

import mlflow

mlflow.set_experiment("pokemon")
with mlflow.start_run():
    for step in ("download", "etl", "split", "train"):
        mlflow.run(".", entry_point=step, env_manager="local", experiment_name="pokemon")
