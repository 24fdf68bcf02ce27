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
TEXT_IS_TEXT = {"text.parse_math": False}  # names of classes and columns may have dollar signs


@rc_context(TEXT_IS_TEXT)
def draw(said: evaluation.Answers, weights: pd.Series, folder: Path) -> dict[str, Path]:
    """Draw a model's figures into ``folder``.

    Args:
        said: what it says of data it has not seen.
        weights: from :func:`pipeline.science.evaluation.importances`.
        folder: where the PNG files go.

    Returns:
        The PNG files by name: ``feature_importance``, and for a classifier
        ``confusion_matrix``, ``roc_curve`` and ``precision_recall_curve``; for a regressor
        ``residuals``.
    """
    drawn = {"feature_importance": draw_importances(weights)}
    if said.classes is not None:
        drawn["confusion_matrix"] = draw_confusion(said)
        if said.scores is not None:
            drawn["roc_curve"] = draw_curves(said, score.roc_curve)
            drawn["precision_recall_curve"] = draw_curves(said, score.precision_recall_curve)
    else:
        drawn["residuals"] = draw_residuals(said)
    return {name: save(figure, folder / f"{name}.png") for name, figure in drawn.items()}


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG; ``savefig`` would lay it out and draw it twice."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    imsave(path, canvas.buffer_rgba(), dpi=figure.dpi)
    return path


def _axes(title: str, **labels: str) -> Any:
    axes = Figure(figsize=(6, 4.5), dpi=110, layout="constrained").subplots()
    axes.set(title=title, **labels)
    return axes


def draw_importances(weights: pd.Series) -> Figure:
    """Bars, the largest on top."""
    top = weights.head(TOP_FEATURES)[::-1]
    axes = _axes("Feature importance", xlabel=str(weights.name))
    axes.barh([str(name) for name in top.index], top.to_numpy())
    axes.tick_params(axis="y", labelsize=8)
    return axes.figure


def draw_confusion(said: evaluation.Answers) -> Figure:
    """True classes against predicted ones, with counts."""
    labels, counts = evaluation.confusion(said)
    axes = _axes("Confusion matrix", xlabel="predicted", ylabel="true")
    axes.imshow(counts, cmap="Blues")
    ticks = range(len(labels))
    axes.set_xticks(ticks, [str(label) for label in labels])
    axes.set_yticks(ticks, [str(label) for label in labels])
    for (row, column), count in np.ndenumerate(counts):
        dark = count > counts.max() / 2
        axes.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    return axes.figure


def draw_curves(said: evaluation.Answers, curve: Any) -> Figure:
    """A ROC or precision-recall curve: of the second of two classes, else one for each class."""
    roc = curve is score.roc_curve
    axes = _axes(
        "ROC curve" if roc else "Precision-recall curve",
        xlabel="false positive rate" if roc else "recall",
        ylabel="true positive rate" if roc else "precision",
    )
    for i, truth in said.ranked.items():
        if truth.any() and not truth.all():
            first, second, _ = curve(truth, said.scores[:, i])
            x, y = (first, second) if roc else (second, first)
            axes.plot(x, y, label=f"{said.classes[i]} (area {score.auc(x, y):.3f})")
    if roc:
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right" if roc else "lower left")
    return axes.figure


def draw_residuals(said: evaluation.Answers) -> Figure:
    """True minus predicted, against predicted."""
    axes = _axes("Residuals", xlabel="predicted", ylabel="true - predicted")
    for name, one in said.each.items():
        axes.scatter(one.predicted, one.truth - one.predicted, s=12, alpha=0.6, label=name)
    if said.targets:
        axes.legend()
    axes.axhline(0, linestyle=":", color="grey")
    return axes.figure
