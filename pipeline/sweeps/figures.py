"""Figures of a sweep, drawn by Optuna: each as a PNG file, all of them on one HTML page."""

import html
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import plotly.io
import yaml
from optuna import visualization
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.visualization import matplotlib as still

from pipeline.sweeps.record import Recorded

FIGURES = {
    "optimization_history": "plot_optimization_history",
    "parameter_importance": "plot_param_importances",
    "parallel_coordinates": "plot_parallel_coordinate",
}

# Names and values of parameters may have dollar signs
PLAIN = {"backend": "agg", "text.parse_math": False}


def draw(
    finished: Sequence[Recorded], keys: Mapping[str, str], name: str, minimize: bool, folder: Path
) -> dict[str, Path]:
    """Draw a sweep into ``folder``: ``sweep.html``, and the PNG files that come back by name.

    Args:
        finished: trials that have a value.
        keys: the parameters that differ among them, and what to call each.
        name: what the value is.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    study, files, pages = as_study(finished, keys, minimize), {}, []
    same = len({one.value for one in finished}) == 1
    with matplotlib.rc_context(PLAIN), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its figures experimental
        for figure, function in FIGURES.items():
            if same and figure == "parameter_importance":
                continue  # no parameter made a difference
            page = getattr(visualization, function)(study, target_name=name)
            pages.append(plotly.io.to_html(page, full_html=False, include_plotlyjs=not pages))
            axes = getattr(still, function)(study, target_name=name)
            files[figure] = folder / f"{figure}.png"
            axes.figure.savefig(files[figure], dpi=110, bbox_inches="tight")
            matplotlib.pyplot.close(axes.figure)
    head = f"<!doctype html><meta charset='utf-8'><title>{html.escape(name)}</title>"
    (folder / "sweep.html").write_text(head + "\n".join(pages), encoding="utf-8")
    return files


def as_study(
    finished: Sequence[Recorded], keys: Mapping[str, str], minimize: bool
) -> optuna.study.Study:
    """Trials of any sweep, a grid too, as Optuna knows them."""
    study = optuna.create_study(direction="minimize" if minimize else "maximize")
    columns = {
        shown: [_value(one.parameters.get(key)) for one in finished] for key, shown in keys.items()
    }
    kinds = {key: _distribution(values) for key, values in columns.items()}
    in_order = sorted(range(len(finished)), key=lambda row: finished[row].number)
    for row in in_order:
        given = {
            key: values[row] if isinstance(kinds[key], FloatDistribution) else str(values[row])
            for key, values in columns.items()
        }
        study.add_trial(
            optuna.trial.create_trial(params=given, distributions=kinds, value=finished[row].value)
        )
    return study


def _value(text: str | None) -> Any:
    try:
        return yaml.safe_load(text) if text else text
    except yaml.YAMLError:  # nothing but text
        return text


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """Numbers are a range; anything else is a choice."""
    if all(type(value) in (int, float) for value in values):
        return FloatDistribution(float(min(values)), float(max(values)))
    return CategoricalDistribution(sorted({str(value) for value in values}))
