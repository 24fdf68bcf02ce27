"""The predictions of a fitted model on unseen data, and the metrics of these predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as score
from sklearn.base import is_classifier
from sklearn.inspection import permutation_importance

PERMUTED_ROWS = 2000
LINE_POINTS = 500
FEW = 5  # test rows of a class; metrics of fewer rows are chance


@dataclass(frozen=True)
class Predictions:
    """A fitted model's predictions for some rows, beside the true values.

    Attributes:
        truth, predicted: the target's values, shape (rows,) or (rows, targets).
        classes: the model's classes, in the order of its scores; None for a regressor.
        scores: the score of each row for each class, shape (rows, classes): probabilities, else
            the decision function; None if the model has neither.
        has_probabilities: whether the scores are probabilities.
        positive_index: the index of the positive class of a binary classifier.
        targets: the names of several targets, the columns of truth and predicted.
    """

    truth: np.ndarray
    predicted: np.ndarray
    classes: list[Any] | None = None
    scores: np.ndarray | None = None
    has_probabilities: bool = False
    positive_index: int = 1
    targets: tuple[str, ...] = ()

    def columns(self, name: str) -> dict[str, np.ndarray]:
        """The predicted values by column: ``name``, or ``name_TARGET`` for several targets."""
        if not self.targets:
            return {name: self.predicted}
        pairs = zip(self.targets, self.predicted.T, strict=True)
        return {f"{name}_{target}": values for target, values in pairs}

    @property
    def by_target(self) -> "dict[str, Predictions]":
        """The predictions of each target by its name; a single target has the name ""."""
        if not self.targets:
            return {"": self}
        pairs = zip(self.truth.T, self.predicted.T, strict=True)
        return {name: Predictions(*pair) for name, pair in zip(self.targets, pairs, strict=True)}

    @property
    def labels(self) -> list[Any]:
        """The classes of a classifier; empty for a regressor."""
        return self.classes or []

    @property
    def all_labels(self) -> list[Any]:
        """The classes of the classifier, then the classes that only the truth has."""
        return [*self.labels, *sorted(set(self.truth) - set(self.labels), key=str)]

    @property
    def positive_class(self) -> Any:
        """The class that the metrics of a binary classifier are of."""
        return self.labels[self.positive_index]

    @property
    def class_masks(self) -> dict[int, np.ndarray]:
        """By index of a class, which rows belong to it: the positive of two classes, else each."""
        indices = [self.positive_index] if len(self.labels) == 2 else range(len(self.labels))
        return {index: self.truth == self.labels[index] for index in indices}


def predict(model: Any, features: pd.DataFrame, target: Any, positive: Any = None) -> Predictions:
    """Predict once, for all metrics and figures.

    Args:
        model: the fitted pipeline.
        features: the rows.
        target: the rows' true values; None if they are not needed.
        positive: the positive class of a binary classifier; None means the second.
    """
    several = tuple(target.columns) if isinstance(target, pd.DataFrame) else ()
    truth = np.array([]) if target is None else target.to_numpy()
    predicted = np.asarray(model.predict(features))
    if not is_classifier(model):
        return Predictions(truth, predicted, targets=several)
    classes, scores, has_probabilities = list(model.classes_), None, hasattr(model, "predict_proba")
    if has_probabilities:
        scores = model.predict_proba(features)
    elif hasattr(model, "decision_function"):
        scores = model.decision_function(features)
        scores = np.column_stack([-scores, scores]) if scores.ndim == 1 else scores
    positive_index = classes.index(positive) if positive in classes else 1
    return Predictions(truth, predicted, classes, scores, has_probabilities, positive_index)


def metrics(predictions: Predictions) -> dict[str, float]:
    """The metrics of predictions.

    A classifier has accuracy, precision, recall and F1 (of the positive of two classes, else the
    mean over classes), and with scores ROC AUC and average precision. A regressor has RMSE, MAE
    and R2; with several targets for each target (``rmse.NAME``), and their means.
    """
    if predictions.targets:
        return multi_target_metrics(
            {name: metrics(part) for name, part in predictions.by_target.items()}
        )
    truth, predicted = predictions.truth, predictions.predicted
    classes, scores = predictions.classes, predictions.scores
    if classes is None:
        return {
            "rmse": float(score.root_mean_squared_error(truth, predicted)),
            "mae": float(score.mean_absolute_error(truth, predicted)),
            "r2": float(score.r2_score(truth, predicted)),
        }
    has_new_class = not set(truth) <= set(classes)
    binary = len(classes) == 2
    averaging = {"pos_label": predictions.positive_class} if binary else {"average": "macro"}
    if has_new_class and binary:
        averaging = {"labels": [predictions.positive_class], "average": "macro"}
    results = {
        "accuracy": score.accuracy_score(truth, predicted),
        "precision": score.precision_score(truth, predicted, zero_division=0, **averaging),
        "recall": score.recall_score(truth, predicted, zero_division=0, **averaging),
        "f1": score.f1_score(truth, predicted, zero_division=0, **averaging),
    }
    if scores is not None and set(classes) == set(truth):  # undefined if a class is absent
        masks = predictions.class_masks.items()
        results["roc_auc"] = np.mean([score.roc_auc_score(rows, scores[:, i]) for i, rows in masks])
        results["average_precision"] = np.mean(
            [score.average_precision_score(rows, scores[:, i]) for i, rows in masks]
        )
    return {name: float(value) for name, value in results.items()}


def multi_target_metrics(by_target: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each metric over the targets, and the metrics of each target (``rmse.NAME``)."""
    names = next(iter(by_target.values()))
    means = {
        name: sum(scores[name] for scores in by_target.values()) / len(by_target) for name in names
    }
    individual = {
        f"{name}.{target}": scores[name] for target, scores in by_target.items() for name in names
    }
    return means | individual


def charts(predictions: Predictions) -> dict[str, pd.DataFrame]:
    """The tables behind a classifier's charts, by name.

    ``confusion`` has the columns true, predicted and rows; ``roc`` and ``precision_recall`` have
    class, x and y, for the positive of two classes, else for each class.
    """
    if predictions.classes is None:
        return {}
    labels, counts = confusion(predictions)
    names = [str(label) for label in labels]
    cells = [(names[i], names[j], int(count)) for (i, j), count in np.ndenumerate(counts)]
    tables = {"confusion": pd.DataFrame(cells, columns=["true", "predicted", "rows"])}
    if predictions.scores is None:
        return tables
    roc, precision_recall = [], []
    for index, truth in predictions.class_masks.items():
        if truth.any() and not truth.all():
            x, y, _ = score.roc_curve(truth, predictions.scores[:, index])
            roc.append(_line(names[index], "false positive rate", x, "true positive rate", y))
            y, x, _ = score.precision_recall_curve(truth, predictions.scores[:, index])
            precision_recall.append(_line(names[index], "recall", x, "precision", y))
    lines = {"roc": roc, "precision_recall": precision_recall}
    return tables | {name: pd.concat(parts) for name, parts in lines.items() if parts}


def confusion(predictions: Predictions) -> tuple[list[Any], np.ndarray]:
    """The classes and the confusion matrix: a row for each true class, a column for each predicted.

    Classes that only the test data has come last.
    """
    labels = predictions.all_labels
    return labels, score.confusion_matrix(predictions.truth, predictions.predicted, labels=labels)


def _line(label: str, x_name: str, x: np.ndarray, y_name: str, y: np.ndarray) -> pd.DataFrame:
    """A curve of a class, thinned to the points that a chart can show."""
    points = np.unique(np.linspace(0, len(x) - 1, min(len(x), LINE_POINTS)).round().astype(int))
    return pd.DataFrame({"class": label, x_name: x[points], y_name: y[points]})


def class_notes(predictions: Predictions) -> list[str]:
    """Notes on classes without rows or with few rows in a part of the data, and their metrics."""
    if predictions.classes is None:
        return []
    trained_classes, test_classes = set(predictions.classes), set(predictions.truth)
    lines = []
    if untrained := sorted(map(str, test_classes - trained_classes)):
        lines.append(f"the test data has classes that training has not: {', '.join(untrained[:5])}")
    if predictions.scores is not None and trained_classes != test_classes:
        absent = ", ".join(sorted(map(str, trained_classes - test_classes))[:5]) or "none"
        lines.append(
            f"roc_auc and average_precision are not measured: classes without a test row: {absent} "
            "(split.stratify keeps shares)"
        )
    classes, counts = np.unique(predictions.truth, return_counts=True)
    few = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < FEW]
    if few:
        lines.append(
            f"the test data has fewer than {FEW} rows of a class: {', '.join(few[:5])}; metrics of "
            "so few rows are chance (split.stratify keeps shares, model.cv=5 measures on all rows)"
        )
    return lines


def baseline(predictions: Predictions) -> dict[str, float]:
    """The metrics of a constant prediction: the most frequent class, or the mean."""
    if predictions.classes is None:
        constant = np.full(predictions.truth.shape, np.mean(predictions.truth, axis=0))
        return metrics(Predictions(predictions.truth, constant, targets=predictions.targets))
    values, counts = np.unique(predictions.truth, return_counts=True)
    most_frequent = np.full(len(predictions.truth), values[counts.argmax()])
    return metrics(
        Predictions(
            predictions.truth,
            most_frequent,
            predictions.classes,
            positive_index=predictions.positive_index,
        )
    )


def importances(model: Any, features: pd.DataFrame, target: pd.Series) -> pd.Series:
    """The importance of each feature, largest first.

    The estimator's own importance if it has any (impurity or absolute coefficients, per encoded
    feature), else the permutation importance, per raw feature.
    """
    estimator = model[-1]
    if hasattr(estimator, "feature_importances_"):
        names, values = model[:-1].get_feature_names_out(), estimator.feature_importances_
    elif hasattr(estimator, "coef_"):
        names = model[:-1].get_feature_names_out()
        values = np.abs(np.atleast_2d(estimator.coef_)).mean(axis=0)
    else:
        names = features.columns
        values = permutation_importance(
            model,
            features,
            target,
            n_repeats=5,
            random_state=0,
            max_samples=min(len(features), PERMUTED_ROWS),
        ).importances_mean
    return pd.Series(values, index=names, name="importance").sort_values(ascending=False)
