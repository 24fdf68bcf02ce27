"""A sweep as one HTML page: its best trial, its figures, and the table of all trials."""

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
CHOICES = 12  # values of a parameter that are listed, and that its axis has ticks for


@dataclass(frozen=True)
class Result:
    """What a sweep came to.

    Attributes:
        trials: all of them.
        best: those with a value, the best first.
        keys: the parameters that differ, and what to call each.
        metric: what trials are compared by.
        minimize: whether less of it is better.
        command: what trains the best one on all training rows; empty where there is none.
        importances: by parameter, as far as they could be computed.
    """

    trials: Sequence[TrialRecord]
    best: Sequence[TrialRecord]
    keys: Mapping[str, str]
    metric: str
    minimize: bool
    command: str
    importances: Mapping[str, float]


def render(result: Result, config: DictConfig, id: str) -> str:
    """The page's text.

    Args:
        result: what the sweep came to.
        config: the sweep's settings.
        id: the sweep's.
    """
    trials = sorted(result.trials, key=lambda one: one.number)
    seconds = [one.seconds for one in trials if one.seconds is not None]
    promote = ["python", "-m", "pipeline", "promote", f"--name={config.model.name}"]
    failed = [
        {"number": one.number, "state": one.state.lower(), "reason": reason(one)}
        for one in trials
        if one.state != "FINISHED"
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


def reason(one: TrialRecord) -> str:
    """Why a trial came to nothing, in a line."""
    return one.error.strip().partition("\n")[0] or "it gave no reason"


def searched(found: Sequence[TrialRecord], key: str) -> str:
    """The values of a parameter that were tried: a range, or a list."""
    values = [one.parameters.get(key) for one in found]
    numbers = [number(value) for value in values]
    different = dict.fromkeys("-" if value is None else value for value in values)
    if None not in numbers and len(different) > 3:
        low, high = (pick(values, key=lambda value: number(value) or 0) for pick in (min, max))
        return f"{low} to {high} ({len(different)} values)"
    more = f", and {len(different) - CHOICES} more" if len(different) > CHOICES else ""
    return ", ".join([*different][:CHOICES]) + more


def number(text: str | None) -> float | None:
    """A parameter's value, if it is a number."""
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return None
    return float(value) if type(value) in (int, float) else None


def progress(
    finished: Sequence[TrialRecord], minimize: bool
) -> dict[str, list[tuple[float, float]]]:
    """Each trial's value in the order of the trials, and the best so far."""
    points, best = [], []
    for one in sorted(finished, key=lambda one: one.number):
        points.append((float(one.number), float(one.value)))
        better = min if minimize else max
        best.append((float(one.number), better(value for _, value in points)))
    return {"points": points, "best": best}


def parallel(finished: Sequence[TrialRecord], keys: Mapping[str, str]) -> dict[str, Any]:
    """Axes side by side, one for each parameter and the last for the value; a line for each trial.

    The lines are in the order of the trials, the worst first, with ``rank`` from 0 to 1.
    """
    axes, places = [], []
    for key, shown in keys.items():
        texts = [one.parameters.get(key) or "-" for one in finished]
        numbers = [number(text) for text in texts]
        if None not in numbers:
            held = axis(numbers)
            ticks = held.ticks
        else:
            labels = sorted(set(texts))
            held = Axis(-0.5, len(labels) - 0.5)
            ticks = [*enumerate(labels)] if len(labels) <= CHOICES else []
            numbers = [float(labels.index(text)) for text in texts]
        axes.append({"name": shown, "ticks": [(held.place(v), text) for v, text in ticks]})
        places.append([held.place(value) for value in numbers])
    values = [one.value for one in finished]
    held = axis(values)
    axes.append({"name": "", "ticks": [(held.place(v), text) for v, text in held.ticks]})
    places.append([held.place(value) for value in values])
    count = max(len(finished) - 1, 1)
    lines = [
        {"number": one.number, "rank": 1 - row / count, "places": line}
        for row, (one, line) in enumerate(zip(finished, [*zip(*places, strict=True)], strict=True))
    ]
    return {"axes": axes, "lines": lines[::-1]}
