"""How good a model is, measured on training data alone: a held-out share, or folds.

Trials are compared by these numbers. The test data stays out of them, so that it can still say
something about the trial that was chosen.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from pipeline.core.errors import PipelineError
from pipeline.science import evaluation


@dataclass(frozen=True)
class How:
    """What to measure on: a share of the rows, so many folds (which go first), or nothing."""

    share: float | None
    folds: int | None
    seed: int


def train(
    fit: Callable,
    model: Any,
    features: pd.DataFrame,
    target: pd.Series,
    how: How,
    positive: Any = None,
) -> tuple[Any, dict[str, float], pd.DataFrame]:
    """Fit a pipeline, and measure it on training data as far as that is wanted.

    A share that is held out is never fitted on; after folds the model is fitted on all rows.

    Args:
        fit: fits a pipeline on features and target, and returns it.
        positive: of two classes the one that the metrics are of.

    Returns:
        The fitted pipeline; ``val_*``, or ``cv_*_mean`` and ``cv_*_std``; each fold's metrics.
    """
    if how.folds:
        folds = cross_validate(fit, model, features, target, how.folds, how.seed, positive)
        return fit(model, features, target), spread(folds), folds
    if not how.share:
        return fit(model, features, target), {}, pd.DataFrame()
    fitted, left, known, hidden = hold_out(model, features, target, how.share, how.seed)
    model = fit(model, fitted, known)
    results = evaluation.metrics(evaluation.answers(model, left, hidden, positive))
    return model, {f"val_{name}": value for name, value in results.items()}, pd.DataFrame()


def hold_out(
    model: Any, features: pd.DataFrame, target: pd.Series, share: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    """Part the training data in what is fitted on and what is measured on.

    Classes keep their shares where each has two rows or more.

    Raises:
        PipelineError: one of the two would be empty.
    """
    stratify = is_classifier(model) and target.value_counts().min() > 1
    try:
        return tuple(
            train_test_split(
                features,
                target,
                test_size=share,
                random_state=seed,
                stratify=target if stratify else None,
            )
        )
    except ValueError as error:
        raise PipelineError(
            f"model.validation={share:g} can't be held out of {len(features)} training rows: "
            f"{error}",
            "hold out another share, or measure by folds: model.cv=5",
        ) from error


def cross_validate(
    fit: Callable,
    model: Any,
    features: pd.DataFrame,
    target: pd.Series,
    folds: int,
    seed: int,
    positive: Any = None,
) -> pd.DataFrame:
    """The metrics of each fold, measured by a model that was fitted on the others.

    Args:
        fit: fits a pipeline on features and target, and returns it.
        model: the pipeline; a fresh copy of it is fitted for each fold.

    Raises:
        PipelineError: there are more folds than rows, or than rows of the rarest class.
    """
    classes = is_classifier(model)
    rows = min(Counter(target).values()) if classes else len(target)
    if folds > rows:
        whose = "of the rarest class" if classes else "to train on"
        raise PipelineError(
            f"model.cv={folds}, and there are {rows} rows {whose}", "choose fewer folds"
        )
    kind = StratifiedKFold if classes else KFold
    measured = []
    for fitted, left in kind(folds, shuffle=True, random_state=seed).split(features, target):
        one = fit(clone(model), features.iloc[fitted], target.iloc[fitted])
        said = evaluation.answers(one, features.iloc[left], target.iloc[left], positive)
        measured.append(evaluation.metrics(said))
    return pd.DataFrame(measured).rename_axis("fold")


def spread(folds: pd.DataFrame) -> dict[str, float]:
    """Mean and standard deviation over the folds: ``cv_f1_mean``, ``cv_f1_std``, ..."""
    told = {}
    for name in folds:
        told[f"cv_{name}_mean"] = float(folds[name].mean())
        told[f"cv_{name}_std"] = float(folds[name].std(ddof=0))
    return told
