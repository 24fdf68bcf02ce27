"""A model's figures as PNG files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from sklearn import metrics as score

from pipeline.science import evaluation

TOP_FEATURES = 20
# Names of classes and columns may contain dollar signs
NO_MATH: dict[Any, Any] = {"text.parse_math": False}


@rc_context(NO_MATH)
def draw(predictions: evaluation.Predictions, weights: pd.Series, folder: Path) -> dict[str, Path]:
    """Draw a model's figures into ``folder``.

    Args:
        predictions: the model's predictions on test data.
        weights: from :func:`pipeline.science.evaluation.importances`.
        folder: the folder of the PNG files.

    Returns:
        The PNG files by name: ``feature_importance``, and for a classifier
        ``confusion_matrix``, ``roc_curve`` and ``precision_recall_curve``; for a regressor
        ``residuals``.
    """
    drawings = {"feature_importance": draw_importances(weights)}
    if predictions.classes is not None:
        drawings["confusion_matrix"] = draw_confusion(predictions)
        if predictions.scores is not None:
            drawings["roc_curve"] = draw_curves(predictions, score.roc_curve)
            drawings["precision_recall_curve"] = draw_curves(
                predictions, score.precision_recall_curve
            )
    else:
        drawings["residuals"] = draw_residuals(predictions)
    return {name: save(figure, folder / f"{name}.png") for name, figure in drawings.items()}


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG; ``savefig`` would compute the layout and draw twice."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    imsave(path, canvas.buffer_rgba(), dpi=figure.dpi)
    return path


def _axes(title: str, **labels: str) -> Any:
    axes = Figure(figsize=(6, 4.5), dpi=110, layout="constrained").subplots()
    axes.set(title=title, **labels)
    return axes


def draw_importances(weights: pd.Series) -> Figure:
    """The feature importances as bars, the largest on top."""
    top = weights.head(TOP_FEATURES)[::-1]
    axes = _axes("Feature importance", xlabel=str(weights.name))
    axes.barh([str(name) for name in top.index], top.to_numpy())
    axes.tick_params(axis="y", labelsize=8)
    return axes.figure


def draw_confusion(predictions: evaluation.Predictions) -> Figure:
    """The confusion matrix, with counts."""
    labels, counts = evaluation.confusion(predictions)
    axes = _axes("Confusion matrix", xlabel="predicted", ylabel="true")
    axes.imshow(counts, cmap="Blues")
    ticks = range(len(labels))
    axes.set_xticks(ticks, [str(label) for label in labels])
    axes.set_yticks(ticks, [str(label) for label in labels])
    for (row, column), count in np.ndenumerate(counts):
        dark = count > counts.max() / 2
        axes.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    return axes.figure


def draw_curves(predictions: evaluation.Predictions, curve: Any) -> Figure:
    """ROC or precision-recall curves: of the second of two classes, else of each class."""
    roc = curve is score.roc_curve
    axes = _axes(
        "ROC curve" if roc else "Precision-recall curve",
        xlabel="false positive rate" if roc else "recall",
        ylabel="true positive rate" if roc else "precision",
    )
    scores, classes = np.asarray(predictions.scores), predictions.classes or []
    for i, truth in predictions.class_masks.items():
        if truth.any() and not truth.all():
            first, second, _ = curve(truth, scores[:, i])
            x, y = (first, second) if roc else (second, first)
            axes.plot(x, y, label=f"{classes[i]} (area {score.auc(x, y):.3f})")
    if roc:
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right" if roc else "lower left")
    return axes.figure


def draw_residuals(predictions: evaluation.Predictions) -> Figure:
    """True minus predicted values, against predicted values."""
    axes = _axes("Residuals", xlabel="predicted", ylabel="true - predicted")
    for name, target in predictions.by_target.items():
        axes.scatter(target.predicted, target.truth - target.predicted, s=12, alpha=0.6, label=name)
    if predictions.targets:
        axes.legend()
    axes.axhline(0, linestyle=":", color="grey")
    return axes.figure
