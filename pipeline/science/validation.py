"""Scheme good a model is, measured on training data alone: a held-out share, or folds.

Trials are compared by these numbers. The test data stays out of them, so that it can still say
something about the trial that was chosen.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    train_test_split,
)

from pipeline.core.errors import PipelineError
from pipeline.science import evaluation, rounds, splitting

CURVE_SHARES, CURVE_FOLDS = (0.1, 0.25, 0.5, 0.75, 1.0), 3  # of a learning curve


@dataclass(frozen=True)
class Scheme:
    """What to measure on: a share of the rows, so many folds (which go first), or nothing.

    Attributes:
        share, folds, seed: how many, and the seed of the draw.
        method: how the test part was drawn (``split.method``); so are these rows.
        key: each row's group or time, for such methods.
    """

    share: float | None
    folds: int | None
    seed: int
    method: str = "random"
    key: pd.Series | None = None

    def splitter(self, classes: bool) -> Any:
        """What parts the rows in folds."""
        if self.method == "time":
            return TimeSeriesSplit(self.folds)
        if self.method == "group":
            kind = StratifiedGroupKFold if classes else GroupKFold
        else:
            kind = StratifiedKFold if classes else KFold
        return kind(self.folds, shuffle=True, random_state=self.seed)

    def predefined_split(self, target: pd.Series, count: int) -> PredefinedSplit | None:
        """Folds that cover each row once, for groups and times; None where any rows will do.

        Args:
            target: the rows' target, by whose index their keys are found.
            count: how many folds.
        """
        if self.key is None or self.method not in ("group", "time"):
            return None
        key = self.key.loc[target.index].reset_index(drop=True)
        if self.method == "time":  # rows beside each other are in one fold
            return PredefinedSplit((key.rank(method="first") - 1) * count // len(key))
        if key.nunique() < count:
            return None
        split = GroupKFold(count, shuffle=True, random_state=self.seed)
        numbers = pd.Series(0, key.index)
        for number, (_, left) in enumerate(split.split(key, groups=key)):
            numbers.iloc[left] = number
        return PredefinedSplit(numbers)


def train(
    fit: Callable[..., Any],
    model: Any,
    features: pd.DataFrame,
    target: pd.Series,
    scheme: Scheme,
    positive: Any = None,
    on_loss: rounds.LossCallback | None = None,
) -> tuple[Any, dict[str, float], pd.DataFrame]:
    """Fit a pipeline, and measure it on training data as far as that is wanted.

    A share that is held out is never fitted on; after folds the model is fitted on all rows.

    Args:
        fit: fits a pipeline on features and target, and returns it.
        positive: of two classes the one that the metrics are of.
        on_loss: takes the loss of each round while the model that is kept is fitted.

    Returns:
        The fitted pipeline; ``val_*``, or ``cv_*_mean`` and ``cv_*_std``; each fold's metrics.
    """
    last = partial(fit, on_loss=on_loss) if on_loss else fit
    if scheme.folds:
        folds = cross_validate(fit, model, features, target, scheme, positive)
        return last(model, features, target), spread(folds), folds
    if not scheme.share:
        return last(model, features, target), {}, pd.DataFrame()
    fitted, left, known, hidden = hold_out(model, features, target, scheme)
    model = last(model, fitted, known)
    results = evaluation.metrics(evaluation.predict(model, left, hidden, positive))
    return model, {f"val_{name}": value for name, value in results.items()}, pd.DataFrame()


def hold_out(
    model: Any, features: pd.DataFrame, target: pd.Series, scheme: Scheme
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    """Part the training data in what is fitted on and what is measured on.

    Classes keep their shares where each has two rows or more.

    Raises:
        PipelineError: one of the two would be empty.
    """
    share = scheme.share or 0.0
    stratify = is_classifier(model) and target.value_counts().min() > 1
    if scheme.key is not None and scheme.method in ("group", "time"):
        keys = {scheme.method: scheme.key.reset_index(drop=True)}
        rows = pd.DataFrame({"row": range(len(target))})
        left, hidden = (p["row"] for p in splitting.split(rows, share, scheme.seed, None, **keys))
        both = features, target
        return tuple(one.iloc[places] for one in both for places in (left, hidden))
    try:
        return tuple(
            train_test_split(
                features,
                target,
                test_size=share,
                random_state=scheme.seed,
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
    fit: Callable[..., Any],
    model: Any,
    features: pd.DataFrame,
    target: pd.Series,
    scheme: Scheme,
    positive: Any = None,
) -> pd.DataFrame:
    """The metrics of each fold, measured by a model that was fitted on the others.

    Args:
        fit: fits a pipeline on features and target, and returns it.
        model: the pipeline; a fresh copy of it is fitted for each fold.

    Raises:
        PipelineError: there are more folds than rows, or than rows of the rarest class.
    """
    measured = []
    for (fitted, known), (left, hidden) in _folds(is_classifier(model), features, target, scheme):
        one = fit(clone(model), fitted, known)
        measured.append(evaluation.metrics(evaluation.predict(one, left, hidden, positive)))
    return pd.DataFrame(measured).rename_axis("fold")


Rows = tuple[pd.DataFrame, pd.Series]  # features and target


def _folds(
    classes: bool, features: pd.DataFrame, target: pd.Series, scheme: Scheme
) -> Iterator[tuple[Rows, Rows]]:
    """The rows to fit on and those to measure on, of each fold; classes keep their shares."""
    folds = scheme.folds or 0
    rows = min(Counter(target).values()) if classes else len(target)
    if folds > rows:
        whose = "of the rarest class" if classes else "to train on"
        raise PipelineError(
            f"model.cv={folds}, and there are {rows} rows {whose}", "choose fewer folds"
        )
    key = scheme.key
    if key is not None and scheme.method == "time":  # folds go by the order of the rows
        order = key.reset_index(drop=True).sort_values(kind="stable").index
        features, target, key = features.iloc[order], target.iloc[order], None
    if key is not None and scheme.method == "group" and key.nunique() < folds:
        raise PipelineError(
            f"model.cv={folds}, and there are {key.nunique()} groups to train on",
            "choose fewer folds",
        )
    for places in scheme.splitter(classes).split(features, target, key):
        fitted, left = ((features.iloc[some], target.iloc[some]) for some in places)
        yield fitted, left


def learning_curve(
    fit: Callable[..., Any],
    model: Any,
    features: pd.DataFrame,
    target: pd.Series,
    scheme: Scheme,
    positive: Any = None,
) -> dict[str, Any]:
    """Scheme good the model is when it is fitted on fewer rows, as the mean over folds.

    A part of a fold's rows is drawn, or is its latest where the method goes by time.

    Args:
        fit: fits a pipeline on features and target, and returns it.
        model: the pipeline; a fresh copy of it is fitted for each part of each fold.

    Returns:
        ``metric``, and ``points``: the number of ``rows``, and the metric of these rows
        (``training``) and of the fold that was left out (``validation``).

    Raises:
        PipelineError: there are fewer rows than folds.
    """
    metric, folds = "f1" if is_classifier(model) else "r2", scheme.folds or CURVE_FOLDS
    each = is_classifier(model) and min(Counter(target).values()) >= folds
    found = []
    scheme = replace(scheme, folds=folds)
    for (fitted, known), (left, hidden) in _folds(each, features, target, scheme):
        if scheme.method != "time":
            fitted = fitted.sample(frac=1, random_state=scheme.seed)
        for share in CURVE_SHARES:
            part = fitted.tail(max(round(share * len(fitted)), 2))
            some = known.loc[part.index]
            if is_classifier(model) and some.nunique() < 2:
                continue
            one = fit(clone(model), part, some)
            told = {"share": share, "rows": len(part)}
            for name, rows in {"training": (part, some), "validation": (left, hidden)}.items():
                predictions = evaluation.predict(one, *rows, positive)
                told[name] = evaluation.metrics(predictions)[metric]
            found.append(told)
    if not found:
        return {"metric": metric, "points": []}
    means = pd.DataFrame(found).groupby("share").mean().dropna().astype({"rows": int})
    return {"metric": metric, "points": means.to_dict("records")}


def spread(folds: pd.DataFrame) -> dict[str, float]:
    """Mean and standard deviation over the folds: ``cv_f1_mean``, ``cv_f1_std``, ..."""
    told = {}
    for name in folds:
        told[f"cv_{name}_mean"] = float(folds[name].mean())
        told[f"cv_{name}_std"] = float(folds[name].std(ddof=0))
    return told
