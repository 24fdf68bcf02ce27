"""The fits of a sweep in a bare script with joblib and scikit-learn, which stores nothing.

python benchmarks/bare_fits.py train_data.csv TRIALS TREES JOBS
"""

import sys

import pandas as pd
from joblib import Parallel, delayed
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def trial(table: pd.DataFrame, trees: int, seed: int) -> float:
    """Fit a forest on 80% of the rows; return its F1 on the other rows."""
    features = table.drop(columns=["number", "name", "legendary"])
    parts = train_test_split(
        features, table.legendary, test_size=0.2, random_state=42, stratify=table.legendary
    )
    numbers = features.select_dtypes("number").columns
    texts = features.select_dtypes(["str", "object"]).columns
    preprocessor = ColumnTransformer(
        [("n", StandardScaler(), numbers), ("c", OneHotEncoder(handle_unknown="ignore"), texts)],
        sparse_threshold=0.3,
    )
    model = make_pipeline(preprocessor, RandomForestClassifier(trees, random_state=seed))
    model.fit(parts[0], parts[2])
    return f1_score(parts[3], model.predict(parts[1]))


def main() -> None:
    """Fit all forests; print the best F1."""
    file, trials, trees, jobs = sys.argv[1], *map(int, sys.argv[2:])
    table = pd.read_csv(file, keep_default_na=False)
    values = Parallel(jobs)(delayed(trial)(table, trees, seed) for seed in range(trials))
    print(max(values))


if __name__ == "__main__":
    main()
