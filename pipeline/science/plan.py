"""The decisions about a table before a model is fitted to it, and the notes on them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
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
# The settings of the training step that determine a plan
SETTINGS = ("target", "drop", "categorical", "task", "positive", "estimator", "params", "allowed",
            "encode", "validation", "cv", "seed", "learning_curve")  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How a model is trained on a table.

    Attributes:
        train, test: the two parts of the table.
        target: the column to predict, or several.
        drop: columns that are not features.
        categorical: columns of numbers that are categories.
        path: the estimator's name, such as ``sklearn.svm.SVC``.
        estimator: the estimator, not fitted.
        kinds: the kind of each feature, see :func:`pipeline.science.data.kinds.features`.
        useless: columns that can't be features, with the reason.
        encode: the encoder of each kind.
        scheme: the training rows to measure the model on.
        positive: the positive class of a binary classifier.
        learning_curve: whether to measure models fitted on fewer rows, too.
        notes: pairs of a decision, in a line, and whether it is a warning.
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
    def metadata(self) -> dict[str, Any]:
        """The metadata of the model artifact."""
        return {"estimator": self.path, "target": self.target, "positive": self.positive}

    @property
    def preparation(self) -> dict[str, Any]:
        """The part of the model's preparation that concerns its target and its columns."""
        dtypes = [kinds.dtype(self.train[name]) for name in tasks.names(self.target)]
        dtype = dtypes[0] if isinstance(self.target, str) else dtypes
        settings = {"target": self.target, "target_dtype": dtype, "positive": self.positive}
        return settings | {"drop": self.drop, "example": self.example}

    @property
    def example(self) -> dict[str, Any]:
        """The features of an example: the row with the fewest gaps of the first training rows."""
        excluded = [*tasks.names(self.target), *self.drop, *self.useless]
        rows = self.train.drop(columns=excluded, errors="ignore").head(FIRST_ROWS)
        fullest_row = rows.loc[[rows.isna().sum(axis=1).idxmin()]]
        records: list[dict[str, Any]] = json.loads(
            fullest_row.to_json(orient="records", date_format="iso")
        )
        return records[0]

    def fit(self, on_loss: rounds.LossCallback | None = None) -> training.Trained:
        """Fit the model, and measure it; ``on_loss`` is called with the loss of each round."""
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


def _task(labels: list[pd.Series], setting: str) -> tuple[str, list[str]]:
    """The task and the reasons for it; several targets are always a regression.

    Raises:
        PipelineError: one of several targets holds classes.
    """
    if len(labels) > 1 and setting == tasks.CLASSIFICATION:
        raise PipelineError(
            "model.task=classification, and model.target names several columns",
            "several targets are numbers; for classes name one column",
        )
    if len(labels) == 1:
        task, why = tasks.decide(labels[0], setting)
        return task, [why]
    names = ", ".join(str(label.name) for label in labels)
    for label in labels:
        if not is_numeric_dtype(label) or is_bool_dtype(label):
            raise PipelineError(
                f"model.target names several columns, and {label.name!r} is not a number: "
                f"{label.iloc[0]}",
                "several targets are numbers; for classes name one column",
            )
    return tasks.REGRESSION, [f"{names}: {tasks.REGRESSION} (several targets)"]


def plan(files: Mapping[str, Path], stored_schema: dict[str, Any] | None, **settings: Any) -> Plan:
    """Read both parts of a table, and decide on the task, the features and the estimator.

    Args:
        files: the paths of ``train`` and ``test``.
        stored_schema: the schema of the training artifact, if it has any.
        settings: the values of :data:`SETTINGS`.

    Raises:
        PipelineError: the parts are not of one table, or the target does not suit the settings.
    """
    notes = (
        []
        if stored_schema
        else [("the training data has no schema.json: types are inferred", False)]
    )
    train, test = training.read_parts(
        files["train"], files["test"], settings["drop"], stored_schema
    )
    names = settings["drop"], settings["categorical"], tasks.names(settings["target"])
    drop, categorical, targets = (defects.resolve_columns(part, train.columns) for part in names)
    target = targets if len(targets) > 1 else targets[0]
    notes += [
        (f"model.drop names {column!r}, which the table lacks", True)
        for column in drop
        if column not in train
    ]
    schema = stored_schema or kinds.schema(train)
    feature_kinds, useless = kinds.features(schema, target, drop, categorical)
    notes += [
        (
            f"{column} is no feature: {why} (etl.schema=[{{column: {column}, kind: category}}] "
            "makes it one)",
            False,
        )
        for column, why in useless.items()
    ]
    labels = [training.target_of(train, name) for name in targets]
    task, reasons = _task(labels, settings["task"])
    notes += [(why, False) for why in reasons]
    path = tasks.estimator_path(settings["estimator"], task)
    estimator = estimators.make_estimator(path, settings["params"], settings["allowed"], task)
    for label in labels:
        tasks.check_fits(estimator, task, label, f"model.estimator={path}")
    positive, encode = None, encoding.check(settings["encode"])
    if len(labels) > 1:
        estimator = encoding.for_multiple_targets(estimator)
        if encode["many"] == "target" and "many" in feature_kinds.values():
            encode["many"] = "one_hot"
            notes.append(("model.encode.many: one_hot, as there are several targets", False))
    if is_classifier(estimator):
        positive, why = tasks.positive(labels[0], settings["positive"])
        notes += [(why, False)] if why else []
    if useless and not feature_kinds:
        reasons = [f"{column} is left out: {why}" for column, why in useless.items()]
        raise PipelineError(
            "\n".join(["the table has no feature", *reasons]),
            "a column that is meant as a feature: etl.schema=[{column: NAME, kind: category}]",
        )
    features, _ = training.separate(train, target, [*drop, *useless])
    size.check(features, labels[0], estimator, feature_kinds, categorical, memory.available())
    notes += [
        (
            f"{column} alone predicts {label.name} almost perfectly: if it is known only after "
            f"{label.name}, leave it out: model.drop=[{column}]",
            True,
        )
        for label in labels
        for column in leaks.find_leaks(features, label, is_classifier(estimator))
    ]
    split_key = splitting.split_key(train, schema)
    scheme = validation.Scheme(settings["validation"], settings["cv"], settings["seed"], *split_key)
    return Plan(
        train,
        test,
        target,
        drop=drop,
        categorical=categorical,
        path=path,
        estimator=estimator,
        kinds=feature_kinds,
        useless=useless,
        encode=encode,
        scheme=scheme,
        positive=positive,
        learning_curve=settings["learning_curve"],
        notes=notes,
    )
