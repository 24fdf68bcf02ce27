"""Measures a model on training data alone: on a held-out share, or by cross-validation.

Trials are compared by these metrics. The test data stays out of the comparison, so that it gives
an unbiased estimate for the trial that is chosen.
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
    """The rows to measure on: folds if they are set, else a held-out share, else none.

    Attributes:
        share: the share of the rows to hold out.
        folds: the number of folds.
        seed: the seed of the draw.
        method: the method that drew the test part (``split.method``), used here as well.
        key: each row's group or time, for the methods group and time.
    """

    share: float | None
    folds: int | None
    seed: int
    method: str = "random"
    key: pd.Series | None = None

    def splitter(self, classes: bool) -> Any:
        """The splitter that divides the rows into folds."""
        if self.method == "time":
            return TimeSeriesSplit(self.folds)
        if self.method == "group":
            kind = StratifiedGroupKFold if classes else GroupKFold
        else:
            kind = StratifiedKFold if classes else KFold
        return kind(self.folds, shuffle=True, random_state=self.seed)

    def predefined_split(self, target: pd.Series, count: int) -> PredefinedSplit | None:
        """Folds by group or time that cover each row once; None if any folds will do.

        Args:
            target: the rows' target, whose index selects their keys.
            count: the number of folds.
        """
        if self.key is None or self.method not in ("group", "time"):
            return None
        key = self.key.loc[target.index].reset_index(drop=True)
        if self.method == "time":  # neighbouring rows are in one fold
            return PredefinedSplit((key.rank(method="first") - 1) * count // len(key))
        if key.nunique() < count:
            return None
        split = GroupKFold(count, shuffle=True, random_state=self.seed)
        numbers = pd.Series(0, key.index)
        for number, (_, fold) in enumerate(split.split(key, groups=key)):
            numbers.iloc[fold] = number
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
    """Fit a pipeline, and measure it on training data as the scheme says.

    The model is never fitted on a held-out share; after cross-validation it is fitted on all rows.

    Args:
        fit: fits a pipeline on features and target, and returns it.
        model: the pipeline.
        features, target: the training rows.
        scheme: the rows to measure on.
        positive: the positive class of a binary classifier.
        on_loss: called with the loss of each round of the final fit.

    Returns:
        The fitted pipeline; ``val_*``, or ``cv_*_mean`` and ``cv_*_std``; each fold's metrics.
    """
    fit_final = partial(fit, on_loss=on_loss) if on_loss else fit
    if scheme.folds:
        folds = cross_validate(fit, model, features, target, scheme, positive)
        return fit_final(model, features, target), spread(folds), folds
    if not scheme.share:
        return fit_final(model, features, target), {}, pd.DataFrame()
    fit_features, held_features, fit_target, held_target = hold_out(model, features, target, scheme)
    model = fit_final(model, fit_features, fit_target)
    results = evaluation.metrics(evaluation.predict(model, held_features, held_target, positive))
    return model, {f"val_{name}": value for name, value in results.items()}, pd.DataFrame()


def hold_out(
    model: Any, features: pd.DataFrame, target: pd.Series, scheme: Scheme
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    """Split the training data into rows to fit on and rows to measure on.

    The split is stratified if each class has two rows or more.

    Returns:
        The features to fit on, the features held out, the target to fit on, the target held out.

    Raises:
        PipelineError: a part would be empty.
    """
    share = scheme.share or 0.0
    stratify = is_classifier(model) and target.value_counts().min() > 1
    if scheme.key is not None and scheme.method in ("group", "time"):
        keys = {scheme.method: scheme.key.reset_index(drop=True)}
        rows = pd.DataFrame({"row": range(len(target))})
        parts = splitting.split(rows, share, scheme.seed, None, **keys)
        return tuple(data.iloc[part["row"]] for data in (features, target) for part in parts)
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
    """The metrics of each fold, of a model fitted on the other folds.

    Args:
        fit: fits a pipeline on features and target, and returns it.
        model: the pipeline; a clone is fitted for each fold.

    Raises:
        PipelineError: there are more folds than rows, or than rows of the rarest class.
    """
    fold_metrics = []
    for fit_rows, held_out in _folds(is_classifier(model), features, target, scheme):
        fitted = fit(clone(model), *fit_rows)
        fold_metrics.append(evaluation.metrics(evaluation.predict(fitted, *held_out, positive)))
    return pd.DataFrame(fold_metrics).rename_axis("fold")


Rows = tuple[pd.DataFrame, pd.Series]  # features and target


def _folds(
    classes: bool, features: pd.DataFrame, target: pd.Series, scheme: Scheme
) -> Iterator[tuple[Rows, Rows]]:
    """The rows to fit on and the rows to measure on, of each fold; stratified for classes."""
    folds = scheme.folds or 0
    rows = min(Counter(target).values()) if classes else len(target)
    if folds > rows:
        purpose = "of the rarest class" if classes else "to train on"
        raise PipelineError(
            f"model.cv={folds}, and there are {rows} rows {purpose}", "choose fewer folds"
        )
    key = scheme.key
    if key is not None and scheme.method == "time":  # TimeSeriesSplit goes by the order of the rows
        order = key.reset_index(drop=True).sort_values(kind="stable").index
        features, target, key = features.iloc[order], target.iloc[order], None
    if key is not None and scheme.method == "group" and key.nunique() < folds:
        raise PipelineError(
            f"model.cv={folds}, and there are {key.nunique()} groups to train on",
            "choose fewer folds",
        )
    for positions in scheme.splitter(classes).split(features, target, key):
        fitted, held_out = ((features.iloc[indices], target.iloc[indices]) for indices in positions)
        yield fitted, held_out


def learning_curve(
    fit: Callable[..., Any],
    model: Any,
    features: pd.DataFrame,
    target: pd.Series,
    scheme: Scheme,
    positive: Any = None,
) -> dict[str, Any]:
    """The metric of models fitted on fewer rows, as the mean over folds.

    A subset of a fold's rows is drawn at random, or is the latest rows if the method is time.

    Args:
        fit: fits a pipeline on features and target, and returns it.
        model: the pipeline; a clone is fitted for each subset of each fold.

    Returns:
        ``metric``, and ``points``: the number of ``rows``, and the metric on these rows
        (``training``) and on the held-out fold (``validation``).

    Raises:
        PipelineError: there are fewer rows than folds.
    """
    metric, folds = "f1" if is_classifier(model) else "r2", scheme.folds or CURVE_FOLDS
    stratified = is_classifier(model) and min(Counter(target).values()) >= folds
    measurements = []
    scheme = replace(scheme, folds=folds)
    for (fit_features, fit_target), held_out in _folds(stratified, features, target, scheme):
        if scheme.method != "time":
            fit_features = fit_features.sample(frac=1, random_state=scheme.seed)
        for share in CURVE_SHARES:
            subset = fit_features.tail(max(round(share * len(fit_features)), 2))
            subset_target = fit_target.loc[subset.index]
            if is_classifier(model) and subset_target.nunique() < 2:
                continue
            fitted = fit(clone(model), subset, subset_target)
            measurement = {"share": share, "rows": len(subset)}
            parts = {"training": (subset, subset_target), "validation": held_out}
            for name, rows in parts.items():
                predictions = evaluation.predict(fitted, *rows, positive)
                measurement[name] = evaluation.metrics(predictions)[metric]
            measurements.append(measurement)
    if not measurements:
        return {"metric": metric, "points": []}
    means = pd.DataFrame(measurements).groupby("share").mean().dropna().astype({"rows": int})
    return {"metric": metric, "points": means.to_dict("records")}


def spread(folds: pd.DataFrame) -> dict[str, float]:
    """Mean and standard deviation of each metric over the folds: ``cv_f1_mean``, ``cv_f1_std``."""
    statistics = {}
    for name in folds:
        statistics[f"cv_{name}_mean"] = float(folds[name].mean())
        statistics[f"cv_{name}_std"] = float(folds[name].std(ddof=0))
    return statistics
