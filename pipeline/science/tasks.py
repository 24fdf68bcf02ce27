"""Which kind of task a target is, which model fits it, and which of two classes is positive.

Pure functions; each decision comes with the reason that is told.
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
    """The kind of task, and why, in a line.

    Args:
        target: the column to predict, without gaps.
        task: ``auto``, or the kind that the user has set.

    Raises:
        PipelineError: the target can't be predicted so.
    """
    name, values = target.name, target.nunique()
    text = not is_numeric_dtype(target) or is_bool_dtype(target)
    if task == REGRESSION and text:
        raise PipelineError(
            f"model.target={name!r} is not a number ({target.tolist()[0]!r}), and "
            "model.task=regression predicts numbers",
            "use model.task=classification and model=auto",
        )
    whole = not text and (not is_float_dtype(target) or (target % 1 == 0).all())
    if task == CLASSIFICATION and not text and not whole:
        raise PipelineError(
            f"model.target={name!r} is continuous, and model.task=classification predicts classes",
            "use model.task=regression and model=auto",
        )
    if task != AUTO:
        found, why = task, "model.task"
    elif text:
        found, why = CLASSIFICATION, f"{values} different {_words(target)}"
    elif whole and (values <= 2 or (values <= FEW and len(target) >= 3 * values)):
        found, why = CLASSIFICATION, f"{values} different whole numbers"
    else:
        found, why = REGRESSION, f"{values} different numbers"
    if found == CLASSIFICATION and values > 1 and len(target) < 2 * values and values > FEW:
        raise PipelineError(
            f"model.target={name!r} has {values} classes in {len(target)} rows",
            "choose a target that repeats its values; numbers are predicted by "
            "model.task=regression and model=auto",
        )
    other = REGRESSION if found == CLASSIFICATION else CLASSIFICATION
    switch = "" if text or not whole or task != AUTO else f"; model.task={other} changes that"
    return found, f"{name}: {found} ({why}{switch})"


def _words(target: pd.Series) -> str:
    return "truth values" if is_bool_dtype(target) else "words"


def estimator_path(path: Any, task: str) -> Any:
    """The estimator that a setting names; ``auto`` is the task's forest, or the classifier.

    Args:
        path: a dotted path; or one for each kind of task, in a mapping.
        task: the kind of task; ``auto`` where it is not known yet.

    Raises:
        PipelineError: the mapping has none for the task.
    """
    path = FORESTS if path == AUTO else path
    found = of_task(path, task if task in FORESTS else CLASSIFICATION)
    if found is None and task in FORESTS:
        raise PipelineError(
            f"model.estimator has none for a {task}: {path}",
            f"use model=auto or model={MODELS[task]}",
        )
    return next(iter(path.values()), None) if found is None else found


def of_task(value: Any, task: str) -> Any:
    """A setting with each mapping of tasks in it replaced by the task's value.

    A parameter without a value for the task is left out.

    Args:
        value: a value, or nested mappings and lists of values.
        task: the kind of task; where it is not known, mappings of tasks stay.
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
    """Refuse a model that predicts something else.

    Args:
        estimator: the estimator.
        task: the kind of task.
        target: the column to predict.
        key: what the user has named the estimator by.

    Raises:
        PipelineError: names a model that fits.
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


def positive(target: pd.Series, wanted: str | None = None) -> tuple[Any, str]:
    """The class that precision, recall and F1 are of, and why; of more than two classes none.

    Args:
        target: the training rows' classes.
        wanted: the class that the user has named, as text.

    Raises:
        PipelineError: there is no such class.
    """
    counts = target.value_counts()
    labels = sorted(counts.index.tolist())
    if wanted is not None:
        named = [label for label in labels if _text(label) == wanted.lower()]
        if len(labels) != 2 or not named:
            raise PipelineError(
                f"model.positive={wanted!r} is none of two classes of {target.name!r}: "
                f"{', '.join(map(_text, labels[:10]))}",
                "name one of two classes, or leave model.positive out",
            )
        return named[0], f"{target.name}: the positive class is {named[0]} (model.positive)"
    if len(labels) != 2:
        return None, ""
    usual = [label for label in labels if _text(label) in POSITIVE]
    if len(usual) == 1:
        found, why = usual[0], "the usual one"
    else:
        found, why = min(labels[::-1], key=lambda label: counts[label]), "the rarer one"
    other = next(label for label in labels if label != found)
    line = f"{target.name}: the positive class is {found}, {why} of two (model.positive={other} "
    return found, line + "changes that)"


def _text(label: Any) -> str:
    number = isinstance(label, Real) and not isinstance(label, bool)
    return f"{label:g}" if number else str(label).lower()
