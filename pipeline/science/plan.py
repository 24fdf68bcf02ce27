"""What is decided about a table before a model is fitted to it, and what is told of that."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator, is_classifier

from pipeline.science import tasks, training
from pipeline.science.data import kinds, leaks


@dataclass(frozen=True)
class Plan:
    """How a model is trained on a table.

    Attributes:
        path: the estimator's name, such as ``sklearn.svm.SVC``.
        estimator: the estimator, not fitted.
        kinds: what each feature holds, as :func:`pipeline.science.data.kinds.features` has it.
        useless: columns that are no features, with the reason.
        positive: of two classes the one that the metrics are of.
        notes: what was decided, a line each.
        warnings: what the user likely wants otherwise.
    """

    path: str
    estimator: BaseEstimator
    kinds: dict[str, str]
    useless: dict[str, str]
    positive: Any = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def plan(
    train: pd.DataFrame,
    schema: dict[str, Any],
    *,
    target: str,
    drop: list[str],
    categorical: list[str],
    task: str,
    positive: str | None,
    estimator: str,
    params: dict[str, Any],
    allowed: list[str],
) -> Plan:
    """Decide what predicts the target, from which features, and whose metrics count.

    Args:
        train: the training rows.
        schema: the types of their columns.
        target: the column to predict.
        drop: columns that are not features.
        categorical: columns of numbers that are categories.
        task: the kind of task, or ``auto``.
        positive: the positive class that the user has named.
        estimator: its name, or ``auto``.
        params: its parameters.
        allowed: packages that may hold it.

    Raises:
        PipelineError: the target can't be predicted so.
    """
    held, useless = kinds.features(schema, target, drop, categorical)
    notes = [
        f"{column} is no feature: {why} (etl.schema=[{{column: {column}, kind: category}}] makes "
        "it one)"
        for column, why in useless.items()
    ]
    labels = training.target_of(train, target)
    found, why = tasks.decide(labels, task)
    notes.append(why)
    path = tasks.estimator_path(estimator, found)
    made = training.make_estimator(path, params, allowed)
    tasks.check_fits(made, found, labels, f"model.estimator={path}")
    chosen = None
    if is_classifier(made):
        chosen, why = tasks.positive(labels, positive)
        notes += [why] if why else []
    known, _ = training.separate(train, target, [*drop, *useless])
    warnings = [
        f"{column} alone tells {target} almost exactly: is it known before? If not, "
        f"model.drop=[{column}]"
        for column in leaks.leaks(known, labels, is_classifier(made))
    ]
    return Plan(path, made, held, useless, chosen, notes, warnings)
