"""Decides the task of a target, the model for it, and the positive class of a binary target.

Pure functions; each decision comes with its reason, for a note.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_float_dtype, is_numeric_dtype
from sklearn.base import is_classifier, is_regressor

from pipeline.core.errors import PipelineError
from pipeline.core.metrics import TASKS

AUTO, CLASSIFICATION, REGRESSION = TASKS
FORESTS = {
    CLASSIFICATION: "sklearn.ensemble.RandomForestClassifier",
    REGRESSION: "sklearn.ensemble.RandomForestRegressor",
}
MODELS = {CLASSIFICATION: "random_forest", REGRESSION: "random_forest_regressor"}
FEW = 10  # whole numbers with more values are amounts, not classes
POSITIVE = ("1", "true", "yes", "y", "t", "positive")


def names(target: str | list[str]) -> list[str]:
    """The columns that a setting names as the target."""
    return [target] if isinstance(target, str) else list(target)


def decide(target: pd.Series, task: str = AUTO) -> tuple[str, str]:
    """The task, and a line that gives the reason.

    Args:
        target: the column to predict, without gaps.
        task: ``auto``, or the task that the user has set.

    Raises:
        PipelineError: the target does not suit the task.
    """
    name, values = target.name, target.nunique()
    is_text = not is_numeric_dtype(target) or is_bool_dtype(target)
    if task == REGRESSION and is_text:
        raise PipelineError(
            f"model.target={name!r} is not a number ({target.tolist()[0]!r}), and "
            "model.task=regression predicts numbers",
            "use model.task=classification and model=auto",
        )
    is_whole = not is_text and (not is_float_dtype(target) or (target % 1 == 0).all())
    if task == CLASSIFICATION and not is_text and not is_whole:
        raise PipelineError(
            f"model.target={name!r} is continuous, and model.task=classification predicts classes",
            "use model.task=regression and model=auto",
        )
    if task != AUTO:
        decided, why = task, "model.task"
    elif is_text:
        decided, why = CLASSIFICATION, f"{values} different {_words(target)}"
    elif is_whole and (values <= 2 or (values <= FEW and len(target) >= 3 * values)):
        decided, why = CLASSIFICATION, f"{values} different whole numbers"
    else:
        decided, why = REGRESSION, f"{values} different numbers"
    if decided == CLASSIFICATION and values > 1 and len(target) < 2 * values and values > FEW:
        raise PipelineError(
            f"model.target={name!r} has {values} classes in {len(target)} rows",
            "choose a target that repeats its values; numbers are predicted by "
            "model.task=regression and model=auto",
        )
    other = REGRESSION if decided == CLASSIFICATION else CLASSIFICATION
    hint = "" if is_text or not is_whole or task != AUTO else f"; model.task={other} changes that"
    return decided, f"{name}: {decided} ({why}{hint})"


def _words(target: pd.Series) -> str:
    return "truth values" if is_bool_dtype(target) else "words"


def estimator_path(path: Any, task: str) -> Any:
    """The path of the estimator that a setting names; ``auto`` is the random forest of the task.

    Args:
        path: a dotted path, or a mapping of task to dotted path.
        task: the task; ``auto`` before it is decided, which selects the classifier.

    Raises:
        PipelineError: the mapping has no estimator for the task.
    """
    path = FORESTS if path == AUTO else path
    chosen = of_task(path, task if task in FORESTS else CLASSIFICATION)
    if chosen is None and task in FORESTS:
        raise PipelineError(
            f"model.estimator has none for a {task}: {path}",
            f"use model=auto or model={MODELS[task]}",
        )
    return next(iter(path.values()), None) if chosen is None else chosen


def of_task(value: Any, task: str) -> Any:
    """Replace each mapping of task to value in a setting by the value of the task.

    A parameter without a value for the task is left out.

    Args:
        value: a value, or nested mappings and lists of values.
        task: the task; before it is decided, the mappings stay.
    """
    if isinstance(value, list):
        return [of_task(inner, task) for inner in value]
    if not isinstance(value, Mapping):
        return value
    if value and set(value) <= set(FORESTS) and task in FORESTS:
        return of_task(value.get(task), task)
    chosen = {key: of_task(inner, task) for key, inner in value.items()}
    return {key: inner for key, inner in chosen.items() if inner is not None or value[key] is None}


def check_fits(estimator: Any, task: str, target: pd.Series, key: str) -> None:
    """Refuse an estimator that does not suit the task.

    Args:
        estimator: the estimator.
        task: the task.
        target: the column to predict.
        key: the setting that named the estimator, for the error.

    Raises:
        PipelineError: a regression with a classifier, or text classes with a regressor.
    """
    name, values = type(estimator).__name__, target.nunique()
    if task == REGRESSION and is_classifier(estimator):
        raise PipelineError(
            f"model.target={target.name!r} has {values} different numbers, a regression, and "
            f"{key} ({name}) predicts classes",
            f"use model=auto or model={MODELS[REGRESSION]}; for classes model.task=classification",
        )
    numeric = is_numeric_dtype(target) and not is_bool_dtype(target)
    if task == CLASSIFICATION and is_regressor(estimator) and not numeric:
        raise PipelineError(
            f"model.target={target.name!r} is not a number ({target.tolist()[0]!r}), and {key} "
            f"({name}) predicts numbers",
            f"use model=auto or model={MODELS[CLASSIFICATION]}",
        )


def positive(target: pd.Series, setting: str | None = None) -> tuple[Any, str]:
    """The positive class of a binary target, and the reason; None with more than two classes.

    Args:
        target: the training rows' classes.
        setting: the positive class as the user names it, as text.

    Raises:
        PipelineError: the target lacks the class, or has not two classes.
    """
    counts = target.value_counts()
    labels = sorted(counts.index.tolist())
    if setting is not None:
        matches = [label for label in labels if _text(label) == setting.lower()]
        if len(labels) != 2 or not matches:
            raise PipelineError(
                f"model.positive={setting!r} is none of two classes of {target.name!r}: "
                f"{', '.join(map(_text, labels[:10]))}",
                "name one of two classes, or leave model.positive out",
            )
        return matches[0], f"{target.name}: the positive class is {matches[0]} (model.positive)"
    if len(labels) != 2:
        return None, ""
    conventional = [label for label in labels if _text(label) in POSITIVE]
    if len(conventional) == 1:
        chosen, why = conventional[0], "the usual one"
    else:
        chosen, why = min(labels[::-1], key=lambda label: counts[label]), "the rarer one"
    other = next(label for label in labels if label != chosen)
    line = f"{target.name}: the positive class is {chosen}, {why} of two (model.positive={other} "
    return chosen, line + "changes that)"


def _text(label: Any) -> str:
    number = isinstance(label, Real) and not isinstance(label, bool)
    return f"{label:g}" if number else str(label).lower()
