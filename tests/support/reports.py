"""Reports of models that are fitted here and now, without a run."""

from typing import Any

import numpy as np
import pandas as pd

from pipeline.reporting import report as html
from pipeline.science import training, validation
from pipeline.science.data import kinds
from pipeline.science.inspection import report_data
from pipeline.tracking import Artifact

LONG = "a label of many words " * 23  # 500 characters
ODD = [
    "😀 emoji 👩‍👩‍👧",
    "שלום עולם",
    "<b>bold</b> & 'quoted'",
    LONG,
    "x" * 500,
    "日本語の長い長い長い長いラベル",
]


def report(
    table: pd.DataFrame,
    target: str,
    model: Any,
    *,
    test_rows: int | None = None,
    positive: Any = None,
    earlier: pd.DataFrame | None = None,
    learning_curve: bool = False,
    **more: Any,
) -> str:
    """The report of a model that is trained on a table's first rows and measured on its last."""
    count = test_rows or len(table) // 2
    train, test = table[:-count], table[-count:].reset_index(drop=True)
    held, useless = kinds.features(kinds.schema(train), target, [], [])
    trained = training.train(
        train, test, model, target=target, drop=[], categorical=[], kinds=held, useless=useless,
        scheme=validation.Scheme(None, None, 0), positive=positive,
        learning_curve=learning_curve,
    )  # fmt: skip
    numbers = report_data.collect(
        trained.model, train, test, kinds=held, target=target, train_name="train",
        test_name="test", identifier=None, mistakes_shown=20, resamples=50, random_state=0,
        cleaning={}, positive=positive, earlier=earlier, **more,
    )  # fmt: skip
    about = {"target": target, "estimator": "a.Model", "params": {"depth": 3},
             "learning_curve": trained.learning_curve, "run": "20260101-000000-abcdef"}  # fmt: skip
    names = {"raw": "houses.csv", "train": "train.csv", "test": "test.csv", "model": "model"}
    artifacts = {role: Artifact(name, "v0", role[0] * 64) for role, name in names.items()}
    artifacts["model"] = Artifact("model", "v0", "m" * 64, metadata=about)
    return html.render(
        numbers, artifacts, project="houses", before=None, drift_note="Compared with before:",
        commands={"alone": ["mlflow run"], "whole": ["make"], "dirty": False},
    )  # fmt: skip


def numbers(rows: int = 120, columns: int = 4, seed: int = 0) -> pd.DataFrame:
    """Columns of numbers."""
    drawn = np.random.default_rng(seed).normal(size=(rows, columns))
    return pd.DataFrame(drawn, columns=[f"x{place}" for place in range(columns)])


def many_classes(classes: int = 300) -> pd.DataFrame:
    """Three rows of each of many classes, in a random order."""
    table = numbers(3 * classes)
    table["kind"] = [f"class {row % classes}" for row in range(len(table))]
    return table


def odd_labels() -> pd.DataFrame:
    """Classes, columns and words that are long, of other scripts, or like HTML."""
    table = numbers(120, len(ODD)).set_axis(ODD, axis=1)
    words = [ODD[row % len(ODD)] for row in range(len(table))]
    return table.assign(word=words, kind=[ODD[row * 7 % 5] for row in range(len(table))])
