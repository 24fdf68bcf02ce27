"""The four steps as a Kedro project with kedro-mlflow."""
