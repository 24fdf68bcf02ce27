"""Renders a sweep as one HTML page: its best trial, its figures and the table of all trials."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from pipeline.reporting.charts import Axis, axis
from pipeline.reporting.page import environment
from pipeline.sweeps.record import TrialRecord

TEMPLATES = Path(__file__).parent
CHOICES = 12  # up to this many values of a parameter are listed and have ticks on its axis


@dataclass(frozen=True)
class Result:
    """The result of a sweep.

    Attributes:
        trials: all trials.
        best: the trials with a value, best first.
        keys: the parameters that differ, with their labels.
        metric: the metric that trials are compared by.
        minimize: whether a lower metric is better.
        command: the command that trains the best trial on all training rows; empty without one.
        importances: by parameter; empty if they could not be computed.
    """

    trials: Sequence[TrialRecord]
    best: Sequence[TrialRecord]
    keys: Mapping[str, str]
    metric: str
    minimize: bool
    command: str
    importances: Mapping[str, float]


def render(result: Result, config: DictConfig, id: str) -> str:
    """The page as HTML.

    Args:
        result: the sweep's result.
        config: the sweep's configuration.
        id: the sweep's id.
    """
    trials = sorted(result.trials, key=lambda trial: trial.number)
    seconds = [trial.seconds for trial in trials if trial.seconds is not None]
    promote = ["python", "-m", "pipeline", "promote", f"--name={config.model.name}"]
    failed = [
        {"number": trial.number, "state": trial.state.lower(), "reason": reason(trial)}
        for trial in trials
        if trial.state != "FINISHED"
    ]
    bars = [
        {"name": name, "value": value, "low": value, "high": value}
        for name, value in result.importances.items()
    ]
    template = environment(TEMPLATES).get_template("sweep.html")
    return template.render(
        dataset=config.main.dataset,
        id=id,
        experiment=config.main.experiment_name,
        metric_name=result.metric,
        minimize=result.minimize,
        trials=trials,
        failed=failed,
        finished=len(result.best),
        searched=[{"key": key, "tried": searched(trials, key)} for key in result.keys],
        keys=result.keys,
        best=result.best[0] if result.best else None,
        command=result.command,
        promote=shlex.join(promote),
        refit=bool(config.search.refit),
        seconds=sum(seconds) if seconds else None,
        progress=progress(result.best, result.minimize),
        importances=bars,
        parallel=parallel(result.best, result.keys),
    )


def reason(trial: TrialRecord) -> str:
    """The first line of a trial's error."""
    return trial.error.strip().partition("\n")[0] or "it gave no reason"


def searched(trials: Sequence[TrialRecord], key: str) -> str:
    """The values of a parameter in all trials: a range or a list."""
    values = [trial.parameters.get(key) for trial in trials]
    numbers = [number(value) for value in values]
    different = dict.fromkeys("-" if value is None else value for value in values)
    if None not in numbers and len(different) > 3:
        low, high = (pick(values, key=lambda value: number(value) or 0) for pick in (min, max))
        return f"{low} to {high} ({len(different)} values)"
    omitted = f", and {len(different) - CHOICES} more" if len(different) > CHOICES else ""
    return ", ".join([*different][:CHOICES]) + omitted


def number(text: str | None) -> float | None:
    """A parameter's value, if it is a number."""
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return None
    return float(value) if isinstance(value, int | float) and type(value) is not bool else None


def progress(trials: Sequence[TrialRecord], minimize: bool) -> dict[str, list[tuple[float, float]]]:
    """Points of (number, value) in the order of the trials: each value, and the best so far."""
    points, best = [], []
    for trial in sorted(trials, key=lambda trial: trial.number):
        points.append((float(trial.number), trial.objective))
        better = min if minimize else max
        best.append((float(trial.number), better(value for _, value in points)))
    return {"points": points, "best": best}


def parallel(trials: Sequence[TrialRecord], keys: Mapping[str, str]) -> dict[str, Any]:
    """Axes and lines of the parallel coordinates: an axis for each parameter and the value.

    The lines are the trials, worst first, with ``rank`` from 0 (worst) to 1 (best).
    """
    axes, positions = [], []
    for key, label in keys.items():
        texts = [trial.parameters.get(key) or "-" for trial in trials]
        numbers = [value for text in texts if (value := number(text)) is not None]
        if len(numbers) == len(texts):
            scale = axis(numbers)
            ticks = scale.ticks
        else:
            labels = sorted(set(texts))
            scale = Axis(-0.5, len(labels) - 0.5)
            ticks = [*enumerate(labels)] if len(labels) <= CHOICES else []
            numbers = [float(labels.index(text)) for text in texts]
        axes.append({"name": label, "ticks": [(scale.place(v), text) for v, text in ticks]})
        positions.append([scale.place(value) for value in numbers])
    values = [trial.objective for trial in trials]
    scale = axis(values)
    axes.append({"name": "", "ticks": [(scale.place(v), text) for v, text in scale.ticks]})
    positions.append([scale.place(value) for value in values])
    count = max(len(trials) - 1, 1)
    by_trial = [*zip(*positions, strict=True)]
    lines = [
        {"number": trial.number, "rank": 1 - row / count, "places": by_trial[row]}
        for row, trial in enumerate(trials)
    ]
    return {"axes": axes, "lines": lines[::-1]}
