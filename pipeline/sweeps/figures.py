"""Figures of a sweep, drawn by Optuna as PNG files, and the importances of its parameters."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.visualization import matplotlib as still

from pipeline.sweeps.record import TrialRecord

FIGURES = {
    "optimization_history": "plot_optimization_history",
    "parameter_importance": "plot_param_importances",
    "parallel_coordinates": "plot_parallel_coordinate",
}

# Names and values of parameters may have dollar signs
PLAIN = {"backend": "agg", "text.parse_math": False}


def draw(
    finished: Sequence[TrialRecord],
    keys: Mapping[str, str],
    name: str,
    minimize: bool,
    folder: Path,
) -> tuple[dict[str, Path], dict[str, float]]:
    """Draw a sweep into ``folder``.

    Args:
        finished: trials that have a value.
        keys: the parameters that differ among them, and what to call each.
        name: what the value is.

    Returns:
        The PNG files by name; and the importance of each parameter, the largest first, if any made
        a difference.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    study, files, importances = as_study(finished, keys, minimize), {}, {}
    same = len({one.value for one in finished}) == 1
    with matplotlib.rc_context(PLAIN), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its figures experimental
        if not same:
            importances = optuna.importance.get_param_importances(study)
        for figure, function in FIGURES.items():
            if same and figure == "parameter_importance":
                continue  # no parameter made a difference
            axes = getattr(still, function)(study, target_name=name)
            files[figure] = folder / f"{figure}.png"
            axes.figure.savefig(files[figure], dpi=110, bbox_inches="tight")
            matplotlib.pyplot.close(axes.figure)
    return files, importances


def as_study(
    finished: Sequence[TrialRecord], keys: Mapping[str, str], minimize: bool
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
