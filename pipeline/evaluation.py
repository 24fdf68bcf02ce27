"""How good a fitted model is: its metrics and its figures, on data it has not seen."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn import metrics as score
from sklearn.base import is_classifier
from sklearn.inspection import permutation_importance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP_FEATURES = 20
PERMUTED_ROWS = 2000


def probabilities(model: Any, features: pd.DataFrame) -> np.ndarray | None:
    """Class probabilities, shape (rows, classes), or None where the model has none."""
    return model.predict_proba(features) if hasattr(model, "predict_proba") else None


def class_scores(model: Any, features: pd.DataFrame) -> np.ndarray | None:
    """How much each row belongs to each class, shape (rows, classes).

    Probabilities, else the decision function, or None where the model has neither.
    """
    if hasattr(model, "predict_proba") or not hasattr(model, "decision_function"):
        return probabilities(model, features)
    margins = model.decision_function(features)
    return np.column_stack([-margins, margins]) if margins.ndim == 1 else margins


def metrics(model: Any, features: pd.DataFrame, target: pd.Series) -> dict[str, float]:
    """The model's metrics on a table.

    A classifier gets accuracy, precision, recall and F1 (of the second class where there are
    two, else the mean over classes), and ROC AUC and average precision where it scores
    classes. A regressor gets RMSE, MAE and R2.
    """
    predicted = model.predict(features)
    if not is_classifier(model):
        return {
            "rmse": float(score.root_mean_squared_error(target, predicted)),
            "mae": float(score.mean_absolute_error(target, predicted)),
            "r2": float(score.r2_score(target, predicted)),
        }
    classes = list(model.classes_)
    one = {"pos_label": classes[1]} if len(classes) == 2 else {"average": "macro"}
    results = {
        "accuracy": score.accuracy_score(target, predicted),
        "precision": score.precision_score(target, predicted, zero_division=0, **one),
        "recall": score.recall_score(target, predicted, zero_division=0, **one),
        "f1": score.f1_score(target, predicted, zero_division=0, **one),
    }
    chances = class_scores(model, features)
    if chances is not None and set(classes) == set(target):  # undefined if a class is absent
        truth = np.column_stack([target == label for label in classes])
        chosen = [1] if len(classes) == 2 else range(len(classes))
        results["roc_auc"] = np.mean(
            [score.roc_auc_score(truth[:, i], chances[:, i]) for i in chosen]
        )
        results["average_precision"] = np.mean(
            [score.average_precision_score(truth[:, i], chances[:, i]) for i in chosen]
        )
    return {name: float(value) for name, value in results.items()}


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


def figures(
    model: Any, features: pd.DataFrame, target: pd.Series, weights: pd.Series, folder: Path
) -> dict[str, Path]:
    """Draw the model's figures into ``folder``.

    Args:
        model: a fitted pipeline.
        features, target: data it has not seen.
        weights: from :func:`importances`.
        folder: where the PNG files go.

    Returns:
        The PNG files by name: ``feature_importance``, and for a classifier
        ``confusion_matrix``, ``roc_curve`` and ``precision_recall_curve``; for a regressor
        ``residuals``.
    """
    drawn = {"feature_importance": draw_importances(weights)}
    if is_classifier(model):
        drawn["confusion_matrix"] = draw_confusion(model, features, target)
        chances = class_scores(model, features)
        if chances is not None:
            drawn["roc_curve"] = draw_curves(model, target, chances, score.roc_curve)
            drawn["precision_recall_curve"] = draw_curves(
                model, target, chances, score.precision_recall_curve
            )
    else:
        drawn["residuals"] = draw_residuals(model, features, target)
    files = {}
    for name, figure in drawn.items():
        files[name] = folder / f"{name}.png"
        figure.savefig(files[name], dpi=110)
    return files


def _axes(title: str, **labels: str) -> Any:
    from matplotlib.figure import Figure  # the report measures and draws nothing with it

    axes = Figure(figsize=(6, 4.5), layout="constrained").subplots()
    axes.set(title=title, **labels)
    return axes


def draw_importances(weights: pd.Series) -> "Figure":
    """Bars, the largest on top."""
    top = weights.head(TOP_FEATURES)[::-1]
    axes = _axes("Feature importance", xlabel=str(weights.name))
    axes.barh([str(name) for name in top.index], top.to_numpy())
    axes.tick_params(axis="y", labelsize=8)
    return axes.figure


def draw_confusion(model: Any, features: pd.DataFrame, target: pd.Series) -> "Figure":
    """True classes against predicted ones, with counts."""
    labels = list(model.classes_)
    counts = score.confusion_matrix(target, model.predict(features), labels=labels)
    axes = _axes("Confusion matrix", xlabel="predicted", ylabel="true")
    axes.imshow(counts, cmap="Blues")
    ticks = range(len(labels))
    axes.set_xticks(ticks, [str(label) for label in labels])
    axes.set_yticks(ticks, [str(label) for label in labels])
    for (row, column), count in np.ndenumerate(counts):
        dark = count > counts.max() / 2
        axes.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    return axes.figure


def draw_curves(model: Any, target: pd.Series, chances: np.ndarray, curve: Any) -> "Figure":
    """A ROC or precision-recall curve: of the second of two classes, else one for each class."""
    roc = curve is score.roc_curve
    axes = _axes(
        "ROC curve" if roc else "Precision-recall curve",
        xlabel="false positive rate" if roc else "recall",
        ylabel="true positive rate" if roc else "precision",
    )
    labels = list(model.classes_)
    for i in [1] if len(labels) == 2 else range(len(labels)):
        truth = target == labels[i]
        if truth.any() and not truth.all():
            first, second, _ = curve(truth, chances[:, i])
            x, y = (first, second) if roc else (second, first)
            axes.plot(x, y, label=f"{labels[i]} (area {score.auc(x, y):.3f})")
    if roc:
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right" if roc else "lower left")
    return axes.figure


def draw_residuals(model: Any, features: pd.DataFrame, target: pd.Series) -> "Figure":
    """True minus predicted, against predicted."""
    predicted = model.predict(features)
    axes = _axes("Residuals", xlabel="predicted", ylabel="true - predicted")
    axes.scatter(predicted, target - predicted, s=12, alpha=0.6)
    axes.axhline(0, linestyle=":", color="grey")
    return axes.figure
