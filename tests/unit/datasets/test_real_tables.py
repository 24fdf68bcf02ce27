"""Real tables by what init decides: the metrics are those of a plain scikit-learn script."""

from pathlib import Path

import pandas as pd
import pytest
from sklearn import datasets, metrics
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.datasets import init
from pipeline.science import splitting, tasks, training, validation
from pipeline.science.data import kinds, tables

FORESTS = {"classification": RandomForestClassifier, "regression": RandomForestRegressor}


def plain(table: pd.DataFrame, target: str, task: str, classes: pd.Series | None) -> float:
    """What a script without this pipeline measures."""
    rows = train_test_split(range(len(table)), test_size=0.2, random_state=42, stratify=classes)
    train, test = (table.iloc[sorted(places)] for places in rows)
    model = make_pipeline(StandardScaler(), FORESTS[task](10, random_state=42))
    model.fit(train.drop(columns=target), train[target])
    said = model.predict(test.drop(columns=target))
    measure = metrics.accuracy_score if task == "classification" else metrics.r2_score
    return measure(test[target], said)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_the_metrics_are_those_of_a_plain_script(name: str, tmp_path: Path) -> None:
    table = getattr(datasets, f"load_{name}")(as_frame=True).frame
    table.columns = [tables.snake_case(title) for title in table]
    table.to_csv(tmp_path / "raw.csv", index=False)
    decided, said = init.look(tmp_path / "raw.csv", None)
    assert not [line for line in said if line.startswith("warning")]
    found = {f"{section}.{key}": value for section, key, value, _ in decided}
    assert found["model.target"] == "target"
    classes = table["target"] if "split.stratify" in found else None

    clean, _ = init.clean(
        tmp_path / "raw.csv", {}, {"missing": [], "decimal": ".", "thousands": "", "parse": {}},
    )  # fmt: skip
    schema = kinds.schema(clean)
    cells = tables.read_cells(tables.write_table(clean, tmp_path / "clean.csv"))
    parts = splitting.split(cells, 0.2, 42, None if classes is None else "target")
    files = (tables.write_table(part, tmp_path / f"{n}.csv") for n, part in enumerate(parts))
    train, test = training.read_parts(*files, [], schema)
    task, _ = tasks.decide(train["target"])
    held, useless = kinds.features(schema, "target", [], [])
    forest = {"n_estimators": 10, "random_state": 42}
    measured = training.train(
        train,
        test,
        training.make_estimator(tasks.FORESTS[task], forest, ["sklearn"]),
        target="target",
        drop=[],
        categorical=[],
        how=validation.How(None, None, 42),
        kinds=held,
        useless=useless,
    ).metrics
    ours = measured["accuracy" if task == "classification" else "r2"]
    assert ours == pytest.approx(plain(table.astype({"target": float}), "target", task, classes),
                                 abs=1e-9)  # fmt: skip
