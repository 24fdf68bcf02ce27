"""What is decided about a table before a model is fitted to it, and what is told of that."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, is_classifier

from pipeline.core.errors import PipelineError
from pipeline.science import (
    encoding,
    estimators,
    memory,
    rounds,
    size,
    splitting,
    tasks,
    training,
    validation,
)
from pipeline.science.data import defects, kinds, leaks

FIRST_ROWS = 100
# The settings of the training step that a plan goes by
SETTINGS = ("target", "drop", "categorical", "task", "positive", "estimator", "params", "allowed",
            "encode", "validation", "cv", "seed", "learning_curve")  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Scheme a model is trained on a table.

    Attributes:
        train, test: the two parts of the table.
        target: the column to predict, or several.
        drop: columns that are not features.
        categorical: columns of numbers that are categories.
        path: the estimator's name, such as ``sklearn.svm.SVC``.
        estimator: the estimator, not fitted.
        kinds: what each feature holds, as :func:`pipeline.science.data.kinds.features` has it.
        useless: columns that are no features, with the reason.
        encode: the encoder of each kind.
        scheme: how the model is measured on training rows.
        positive: of two classes the one that the metrics are of.
        learning_curve: whether it is measured with fewer rows, too.
        notes: what was decided, a line each, and whether the user likely wants otherwise.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    target: str | list[str]
    drop: list[str]
    categorical: list[str]
    path: str
    estimator: BaseEstimator
    kinds: dict[str, str]
    useless: dict[str, str]
    encode: dict[str, str]
    scheme: validation.Scheme
    positive: Any = None
    learning_curve: bool = False
    notes: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The model in a few words."""
        return f"{self.path} predicting {', '.join(tasks.names(self.target))}"

    @property
    def about(self) -> dict[str, Any]:
        """What is recorded beside the model."""
        return {"estimator": self.path, "target": self.target, "positive": self.positive}

    @property
    def predicted(self) -> dict[str, Any]:
        """What those who predict have to know of the target, and what is no feature."""
        dtypes = [kinds.dtype(self.train[name]) for name in tasks.names(self.target)]
        dtype = dtypes[0] if isinstance(self.target, str) else dtypes
        told = {"target": self.target, "target_dtype": dtype, "positive": self.positive}
        return told | {"drop": self.drop, "example": self.example}

    @property
    def example(self) -> dict[str, Any]:
        """The features of a training row, one of the first with the fewest gaps."""
        left = [*tasks.names(self.target), *self.drop, *self.useless]
        rows = self.train.drop(columns=left, errors="ignore").head(FIRST_ROWS)
        chosen = rows.loc[[rows.isna().sum(axis=1).idxmin()]]
        records: list[dict[str, Any]] = json.loads(
            chosen.to_json(orient="records", date_format="iso")
        )
        return records[0]

    def fit(self, on_loss: rounds.LossCallback | None = None) -> training.Trained:
        """Fit the model, and measure it; ``on_loss`` takes the loss of each round."""
        return training.train(
            self.train,
            self.test,
            self.estimator,
            target=self.target,
            drop=self.drop,
            categorical=self.categorical,
            scheme=self.scheme,
            positive=self.positive,
            kinds=self.kinds,
            useless=self.useless,
            encode=self.encode,
            on_loss=on_loss,
            learning_curve=self.learning_curve,
        )


def _task(labels: list[pd.Series], asked: str) -> tuple[str, list[str]]:
    """The kind of task of one target, or of several, which are numbers; and why.

    Raises:
        PipelineError: one of several holds classes.
    """
    if len(labels) > 1 and asked == tasks.CLASSIFICATION:
        raise PipelineError(
            "model.task=classification, and model.target names several columns",
            "several targets are numbers; for classes name one column",
        )
    if len(labels) == 1:
        task, why = tasks.decide(labels[0], asked)
        return task, [why]
    for one in labels:
        tasks.decide(one, tasks.REGRESSION)
    shown = ", ".join(str(one.name) for one in labels)
    return tasks.REGRESSION, [f"{shown}: {tasks.REGRESSION} (several targets)"]


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
    named = {
        key: defects.resolve_columns(asked[key], train.columns) for key in ("drop", "categorical")
    }
    drop, targets = (
        named["drop"],
        defects.resolve_columns(tasks.names(asked["target"]), train.columns),
    )
    target = targets if len(targets) > 1 else targets[0]
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
    labels = [training.target_of(train, name) for name in targets]
    task, reasons = _task(labels, asked["task"])
    notes += [(why, False) for why in reasons]
    path = tasks.estimator_path(asked["estimator"], task)
    made = estimators.make_estimator(path, asked["params"], asked["allowed"], task)
    for one in labels:
        tasks.check_fits(made, task, one, f"model.estimator={path}")
    positive, encode = None, encoding.check(asked["encode"])
    if len(labels) > 1:
        made = encoding.for_multiple_targets(made)
        if encode["many"] == "target" and "many" in held.values():
            encode["many"] = "one_hot"
            notes.append(("model.encode.many: one_hot, as there are several targets", False))
    if is_classifier(made):
        positive, why = tasks.positive(labels[0], asked["positive"])
        notes += [(why, False)] if why else []
    features, _ = training.separate(train, target, [*drop, *useless])
    size.check(features, labels[0], made, held, named["categorical"], memory.available())
    notes += [
        (
            f"{column} alone tells {one.name} almost exactly: is it known before? If not, "
            f"model.drop=[{column}]",
            True,
        )
        for one in labels
        for column in leaks.find_leaks(features, one, is_classifier(made))
    ]
    drawn = splitting.split_key(train, schema)
    scheme = validation.Scheme(asked["validation"], asked["cv"], asked["seed"], *drawn)
    return Plan(
        train,
        test,
        target,
        path=path,
        estimator=made,
        kinds=held,
        useless=useless,
        encode=encode,
        scheme=scheme,
        positive=positive,
        learning_curve=asked["learning_curve"],
        notes=notes,
        **named,
    )
