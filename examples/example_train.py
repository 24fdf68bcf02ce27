"""Train on the iris data; the MLflow run's id leads to the code, the metrics and the model.

Run it in a clone of this repository; only the branch `experiments` changes:

    PYTHONPATH=. python examples/example_train.py
    git show experiments
"""

from pathlib import Path

import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from wrapper.train_wrapper import train_wrapper


@train_wrapper
def train():
    """Fit a small forest, and evaluate it on a fifth of the rows."""
    table = pd.read_csv("data/iris.csv")
    X, y = table.drop(columns="species"), table["species"]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
    model = RandomForestClassifier(n_estimators=20, random_state=42).fit(X_train, y_train)
    return {"metrics": {"accuracy": model.score(X_test, y_test)}, "model": model}


if __name__ == "__main__":
    print(train(wrapper_branch="experiments", wrapper_gitwd=Path.cwd())["metrics"])
