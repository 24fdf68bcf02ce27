"""Preprocess the iris data, and commit the code with references to the data.

Run it in a clone of this repository; only the branch `experiments` changes:

    PYTHONPATH=. python examples/example_preprocess.py
    git show experiments
"""

from pathlib import Path

import pandas as pd
from sklearn.preprocessing import StandardScaler

from wrapper.preprocess_wrapper import preprocess_wrapper


@preprocess_wrapper
def preprocess(X: pd.DataFrame, y: pd.Series):
    """Scale the measurements, and lower the case of the species."""
    data_1 = pd.DataFrame(StandardScaler().fit_transform(X), columns=X.columns)
    data_2 = y.str.lower()
    return {"data_1": data_1, "data_2": data_2}


if __name__ == "__main__":
    frames = preprocess(
        wrapper_branch="experiments",
        wrapper_gitwd=Path.cwd(),
        wrapper_data_path="data/iris.csv",
        wrapper_target_cols="species",
    )
    print(frames["data_1"].describe().round(2))
