"""Draws a sweep's figures with Optuna, and computes the importances of its parameters."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import yaml
from matplotlib import pyplot
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.visualization import matplotlib as still

from pipeline.sweeps.record import TrialRecord

FIGURES = {
    "optimization_history": "plot_optimization_history",
    "parameter_importance": "plot_param_importances",
    "parallel_coordinates": "plot_parallel_coordinate",
}

# Do not read dollar signs in names and values of parameters as mathematics
PLAIN: dict[Any, Any] = {"backend": "agg", "text.parse_math": False}


def draw(
    trials: Sequence[TrialRecord],
    keys: Mapping[str, str],
    metric: str,
    minimize: bool,
    folder: Path,
) -> tuple[dict[str, Path], dict[str, float]]:
    """Draw a sweep's figures into ``folder``.

    Args:
        trials: finished trials that have a value.
        keys: the parameters that differ between them, with their labels.
        metric: the name of the value.
        minimize: whether a lower value is better.
        folder: where the PNG files go.

    Returns:
        The PNG files by name, and the importance of each parameter, largest first; no importances
        if all values are equal.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    study, files, importances = as_study(trials, keys, minimize), {}, {}
    all_equal = len({trial.value for trial in trials}) == 1
    with matplotlib.rc_context(PLAIN), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls its figures experimental
        if not all_equal:
            importances = optuna.importance.get_param_importances(study)
        for figure, function in FIGURES.items():
            if all_equal and figure == "parameter_importance":
                continue  # importances are undefined
            axes = getattr(still, function)(study, target_name=metric)
            files[figure] = folder / f"{figure}.png"
            axes.figure.savefig(files[figure], dpi=110, bbox_inches="tight")
            pyplot.close(axes.figure)
    return files, importances


def as_study(
    trials: Sequence[TrialRecord], keys: Mapping[str, str], minimize: bool
) -> optuna.study.Study:
    """An Optuna study with the trials of any sweep, including a grid."""
    study = optuna.create_study(direction="minimize" if minimize else "maximize")
    columns = {
        label: [_value(trial.parameters.get(key)) for trial in trials]
        for key, label in keys.items()
    }
    ranges = {key: _distribution(values) for key, values in columns.items()}
    rows = sorted(range(len(trials)), key=lambda row: trials[row].number)
    for row in rows:
        params = {
            key: values[row] if isinstance(ranges[key], FloatDistribution) else str(values[row])
            for key, values in columns.items()
        }
        value = trials[row].value
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=value))
    return study


def _value(text: str | None) -> Any:
    try:
        return yaml.safe_load(text) if text else text
    except yaml.YAMLError:  # plain text
        return text


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """A float range if all values are numbers, else a choice."""
    if all(type(value) in (int, float) for value in values):
        return FloatDistribution(float(min(values)), float(max(values)))
    return CategoricalDistribution(sorted({str(value) for value in values}))
