"""What is decided about a table before a model is fitted to it, and what is told of that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, is_classifier

from pipeline.science import (
    encoding,
    estimators,
    memory,
    size,
    splitting,
    tasks,
    training,
    validation,
)
from pipeline.science.data import defects, kinds, leaks

# The settings of the training step that a plan goes by
SETTINGS = ("target", "drop", "categorical", "task", "positive", "estimator", "params", "allowed",
            "encode", "validation", "cv", "seed")  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How a model is trained on a table.

    Attributes:
        train, test: the two parts of the table.
        target: the column to predict.
        drop: columns that are not features.
        categorical: columns of numbers that are categories.
        path: the estimator's name, such as ``sklearn.svm.SVC``.
        estimator: the estimator, not fitted.
        kinds: what each feature holds, as :func:`pipeline.science.data.kinds.features` has it.
        useless: columns that are no features, with the reason.
        encode: the encoder of each kind.
        how: how the model is measured on training rows.
        positive: of two classes the one that the metrics are of.
        notes: what was decided, a line each, and whether the user likely wants otherwise.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    target: str
    drop: list[str]
    categorical: list[str]
    path: str
    estimator: BaseEstimator
    kinds: dict[str, str]
    useless: dict[str, str]
    encode: dict[str, str]
    how: validation.How
    positive: Any = None
    notes: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def predicted(self) -> dict[str, Any]:
        """What those who predict have to know of the target, and what is no feature."""
        dtype = kinds.dtype(self.train[self.target])
        told = {"target": self.target, "target_dtype": dtype, "positive": self.positive}
        return told | {"drop": self.drop}

    def fit(self) -> training.Trained:
        """Fit the model, and measure it."""
        return training.train(
            self.train,
            self.test,
            self.estimator,
            target=self.target,
            drop=self.drop,
            categorical=self.categorical,
            how=self.how,
            positive=self.positive,
            kinds=self.kinds,
            useless=self.useless,
            encode=self.encode,
        )


def plan(files: Mapping[str, Path], known: dict[str, Any] | None, **asked: Any) -> Plan:
    """Read both parts of a table, and decide what predicts the target, from which features.

    Args:
        files: ``train`` and ``test``.
        known: the schema that the training part has with it.
        asked: the :data:`SETTINGS`.

    Raises:
        PipelineError: the parts are not of one table, or the target can't be predicted so.
    """
    notes = [] if known else [("the training data has no schema.json: types are inferred", False)]
    train, test = training.read_parts(files["train"], files["test"], asked["drop"], known)
    named = {key: defects.named(asked[key], train.columns) for key in ("drop", "categorical")}
    drop, (target,) = named["drop"], defects.named([asked["target"]], train.columns)
    notes += [
        (f"model.drop names {column!r}, which the table lacks", True)
        for column in drop
        if column not in train
    ]
    schema = known or kinds.schema(train)
    held, useless = kinds.features(schema, target, drop, named["categorical"])
    notes += [
        (
            f"{column} is no feature: {why} (etl.schema=[{{column: {column}, kind: category}}] "
            "makes it one)",
            False,
        )
        for column, why in useless.items()
    ]
    labels = training.target_of(train, target)
    task, why = tasks.decide(labels, asked["task"])
    notes.append((why, False))
    path = tasks.estimator_path(asked["estimator"], task)
    made = estimators.make_estimator(path, asked["params"], asked["allowed"], task)
    tasks.check_fits(made, task, labels, f"model.estimator={path}")
    positive = None
    if is_classifier(made):
        positive, why = tasks.positive(labels, asked["positive"])
        notes += [(why, False)] if why else []
    features, _ = training.separate(train, target, [*drop, *useless])
    size.check(features, labels, made, held, named["categorical"], memory.available())
    notes += [
        (
            f"{column} alone tells {target} almost exactly: is it known before? If not, "
            f"model.drop=[{column}]",
            True,
        )
        for column in leaks.leaks(features, labels, is_classifier(made))
    ]
    drawn = splitting.drawn(train, schema)
    how = validation.How(asked["validation"], asked["cv"], asked["seed"], *drawn)
    encode = encoding.check(asked["encode"])
    return Plan(
        train,
        test,
        target,
        path=path,
        estimator=made,
        kinds=held,
        useless=useless,
        encode=encode,
        how=how,
        positive=positive,
        notes=notes,
        **named,
    )
