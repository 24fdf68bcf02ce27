"""How good a fitted model is: its metrics, on data it has not seen."""

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


@dataclass(frozen=True)
class Predictions:
    """What a fitted model says of rows, beside the truth about them.

    Attributes:
        truth, predicted: the target's values, shape (rows,).
        classes: those that the model knows, in the order of its scores; None for a regressor.
        scores: how much each row belongs to each class, shape (rows, classes): probabilities, else
            the decision function; None where the model has neither.
        has_probabilities: whether the scores are probabilities.
        positive_index: of two classes the place of the one that the metrics are of.
        targets: the names of several targets, which truth and predicted have a column for each of.
    """

    truth: np.ndarray
    predicted: np.ndarray
    classes: list[Any] | None = None
    scores: np.ndarray | None = None
    has_probabilities: bool = False
    positive_index: int = 1
    targets: tuple[str, ...] = ()

    def columns(self, name: str) -> dict[str, np.ndarray]:
        """What is predicted, under a name; for each of several targets with its own added."""
        if not self.targets:
            return {name: self.predicted}
        pairs = zip(self.targets, self.predicted.T, strict=True)
        return {f"{name}_{target}": values for target, values in pairs}

    @property
    def by_target(self) -> "dict[str, Predictions]":
        """The answers for each target by its name; of one target under no name."""
        if not self.targets:
            return {"": self}
        pairs = zip(self.truth.T, self.predicted.T, strict=True)
        return {name: Predictions(*pair) for name, pair in zip(self.targets, pairs, strict=True)}

    @property
    def labels(self) -> list[Any]:
        """The classes that a classifier knows; none of a regressor."""
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
        """Which rows are of a class, by its place: of the positive of two classes, else of each."""
        places = [self.positive_index] if len(self.labels) == 2 else range(len(self.labels))
        return {place: self.truth == self.labels[place] for place in places}


def predict(model: Any, features: pd.DataFrame, target: Any, positive: Any = None) -> Predictions:
    """Ask a model once for all that is measured and drawn of it.

    Args:
        model: the fitted pipeline.
        features, target: rows, and the truth about them; None where it is not asked for.
        positive: of two classes the one that the metrics are of; None means the second.
    """
    truth = np.array([]) if target is None else target.to_numpy()
    predicted = np.asarray(model.predict(features))
    if not is_classifier(model):
        several = tuple(target.columns) if isinstance(target, pd.DataFrame) else ()
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
    """A model's metrics.

    A classifier gets accuracy, precision, recall and F1 (of the positive class where there are
    two, else the mean over classes), and ROC AUC and average precision where it scores
    classes. A regressor gets RMSE, MAE and R2; of several targets each (``rmse.NAME``), and the
    mean of these.
    """
    if predictions.targets:
        return multi_target_metrics(
            {name: metrics(one) for name, one in predictions.by_target.items()}
        )
    truth, predicted = predictions.truth, predictions.predicted
    classes, scores = predictions.classes, predictions.scores
    if classes is None:
        return {
            "rmse": float(score.root_mean_squared_error(truth, predicted)),
            "mae": float(score.mean_absolute_error(truth, predicted)),
            "r2": float(score.r2_score(truth, predicted)),
        }
    strange = classes is not None and not set(truth) <= set(classes)  # one that was never seen
    binary = len(classes) == 2
    one = {"pos_label": predictions.positive_class} if binary else {"average": "macro"}
    if strange and binary:
        one = {"labels": [predictions.positive_class], "average": "macro"}
    results = {
        "accuracy": score.accuracy_score(truth, predicted),
        "precision": score.precision_score(truth, predicted, zero_division=0, **one),
        "recall": score.recall_score(truth, predicted, zero_division=0, **one),
        "f1": score.f1_score(truth, predicted, zero_division=0, **one),
    }
    if scores is not None and set(classes) == set(truth):  # undefined if a class is absent
        ranked = predictions.class_masks.items()
        results["roc_auc"] = np.mean(
            [score.roc_auc_score(rows, scores[:, i]) for i, rows in ranked]
        )
        results["average_precision"] = np.mean(
            [score.average_precision_score(rows, scores[:, i]) for i, rows in ranked]
        )
    return {name: float(value) for name, value in results.items()}


def multi_target_metrics(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Metrics of several targets: the mean of each, and each by the target's name."""
    names = next(iter(found.values()))
    means = {name: sum(one[name] for one in found.values()) / len(found) for name in names}
    each = {f"{name}.{key}": one[name] for key, one in found.items() for name in names}
    return means | each


def charts(predictions: Predictions) -> dict[str, pd.DataFrame]:
    """What a classifier's charts are drawn from, by name.

    ``confusion`` has the columns true, predicted and rows; ``roc`` and ``precision_recall`` have
    class, x and y, for the positive of two classes, else for each.
    """
    if predictions.classes is None:
        return {}
    labels, counts = confusion(predictions)
    names = [str(label) for label in labels]
    cells = [(names[i], names[j], int(count)) for (i, j), count in np.ndenumerate(counts)]
    found = {"confusion": pd.DataFrame(cells, columns=["true", "predicted", "rows"])}
    if predictions.scores is None:
        return found
    roc, precise = [], []
    for place, truth in predictions.class_masks.items():
        if truth.any() and not truth.all():
            x, y, _ = score.roc_curve(truth, predictions.scores[:, place])
            roc.append(_line(names[place], "false positive rate", x, "true positive rate", y))
            y, x, _ = score.precision_recall_curve(truth, predictions.scores[:, place])
            precise.append(_line(names[place], "recall", x, "precision", y))
    lines = {"roc": roc, "precision_recall": precise}
    return found | {name: pd.concat(parts) for name, parts in lines.items() if parts}


def confusion(predictions: Predictions) -> tuple[list[Any], np.ndarray]:
    """Classes, and how many rows of each were taken for each: true ones down, predicted across.

    Classes that only the test data has come last.
    """
    labels = predictions.all_labels
    return labels, score.confusion_matrix(predictions.truth, predictions.predicted, labels=labels)


def _line(label: str, across: str, x: np.ndarray, up: str, y: np.ndarray) -> pd.DataFrame:
    """A class's line, of so many points as can be seen."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), LINE_POINTS)).round().astype(int))
    return pd.DataFrame({"class": label, across: x[kept], up: y[kept]})


def missing_class_notes(predictions: Predictions) -> list[str]:
    """What can't be measured, because a class is in one part of the data only."""
    if predictions.classes is None:
        return []
    known, there = set(predictions.classes), set(predictions.truth)
    lines = []
    if new := sorted(map(str, there - known)):
        lines.append(f"the test data has classes that training has not: {', '.join(new[:5])}")
    if predictions.scores is not None and known != there:
        gone = ", ".join(sorted(map(str, known - there))[:5]) or "none"
        lines.append(
            f"roc_auc and average_precision are not measured: classes without a test row: {gone} "
            "(split.stratify keeps shares)"
        )
    return lines


def baseline(predictions: Predictions) -> dict[str, float]:
    """The metrics of a model that says the same of every row: the commonest class, or the mean."""
    if predictions.classes is None:
        constant = np.full(predictions.truth.shape, np.mean(predictions.truth, axis=0))
        return metrics(Predictions(predictions.truth, constant, targets=predictions.targets))
    labels, counts = np.unique(predictions.truth, return_counts=True)
    commonest = np.full(len(predictions.truth), labels[counts.argmax()])
    return metrics(
        Predictions(
            predictions.truth,
            commonest,
            predictions.classes,
            positive_index=predictions.positive_index,
        )
    )


def importances(model: Any, features: pd.DataFrame, target: pd.Series) -> pd.Series:
    """How much each feature matters, largest first.

    The estimator's own measure where it has one (impurity or absolute coefficients, per
    prepared feature); else permutation importance, per raw feature.
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
