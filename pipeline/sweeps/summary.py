"""Summarizes a sweep: the table of its best trials, its figures, and the files that hold them."""

import contextlib
import csv
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from pipeline.core import settings
from pipeline.core.metrics import lower_is_better, measured_as
from pipeline.core.numbers import number
from pipeline.orchestration.terminal import PlainConsole
from pipeline.sweeps import page
from pipeline.sweeps.record import TrialRecord
from pipeline.tracking import Tracker

BEST = 10  # trials in the printed table
SHORTEST = 3  # finished trials that figures need
MEASURING = ("model.validation", "model.cv")  # hold rows out to compare trials

# An override with a quoted value that needs no quotes; without them a shell needs none either
PLAIN = re.compile(r"^([^=]+=)'(?!(?:null|true|false|nan|inf)')([A-Za-z]\w*)'$", re.IGNORECASE)


def show(
    trials: Sequence[TrialRecord],
    config: DictConfig,
    id: str,
    folder: Path,
    console: Console | None = None,
) -> None:
    """Print the best trials and the command that trains the best one on all training rows."""
    metric, console = measured(trials, config), console or PlainConsole()
    keys, best_trials = varied(trials), ranked(trials, config)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("trial", justify="right")
    for key in (*short(keys).values(), metric, "seconds"):
        table.add_column(key, justify="right", overflow="fold")
    for trial in best_trials[:BEST]:
        values = (trial.parameters.get(key, "") for key in keys)
        seconds = "" if trial.seconds is None else f"{trial.seconds:,.1f}"
        table.add_row(str(trial.number), *values, number(trial.value), seconds)
    console.print()
    if best_trials:
        console.print(table)
        console.print("\nto train the best trial on all training rows:", style="dim")
        console.print(f"  {command(best_trials[0])}", markup=False, soft_wrap=True)
    console.print(f"sweep {id}: {folder}", style="dim", markup=False, soft_wrap=True)


def command(trial: TrialRecord) -> str:
    """The command that trains a trial's model on all training rows."""
    unquoted = [PLAIN.sub(r"\1\2", override) for override in refit_overrides(trial)]
    return f"python main.py {shlex.join(unquoted)}"


def refit_overrides(trial: TrialRecord) -> list[str]:
    """The overrides that train a trial's model without holding rows out."""
    return [word for word in trial.overrides if word.lstrip("+").partition("=")[0] not in MEASURING]


def log(
    trials: Sequence[TrialRecord],
    config: DictConfig,
    id: str,
    run: str,
    folder: Path,
    tracker: Tracker,
) -> None:
    """Write table, page and figures to the sweep's folder; log them to MLflow and the tracker."""
    metric, sweep_folder = measured(trials, config), folder / "sweep"
    sweep_folder.mkdir(parents=True, exist_ok=True)
    table = as_table(trials, metric)
    table.to_csv(sweep_folder / "trials.csv", index=False, quoting=csv.QUOTE_MINIMAL)
    best, figures, importances = ranked(trials, config), {}, {}
    if len(best) >= SHORTEST and varied(best):
        figures, importances = _drawn(best, metric, config, sweep_folder)
    best_command, keys = command(best[0]) if best else "", short(varied(trials))
    result = page.Result(trials, best, keys, metric, minimized(config), best_command, importances)
    (sweep_folder / "sweep.html").write_text(page.render(result, config, id), encoding="utf-8")
    client = mlflow.MlflowClient(settings.tracking_uri())
    client.log_artifacts(run, str(sweep_folder), "sweep")
    if best:
        client.log_metric(run, "best", best[0].objective)
        client.set_tag(run, "pipeline.best", str(best[0].number))
    with (sweep_folder / "tracker.log").open("w") as log_file, contextlib.redirect_stdout(log_file):
        run_config = {"sweep": id, "metric": metric, "experiment": config.main.experiment_name}
        tracker_run = tracker.open_run(job_type="sweep", name=f"sweep-{id}", config=run_config)
        if best:
            tracker_run.log({f"best_{metric}": best[0].value})
        if figures:
            tracker_run.log(figures)
        tracker_run.log({"trials": table})
        tracker_run.finish(failed=not best)
    hint = tracker.dashboard([tracker_run.url] if tracker_run.url else [])
    PlainConsole().print(hint, style="dim", soft_wrap=True)


def _drawn(
    best_trials: Sequence[TrialRecord], metric: str, config: DictConfig, sweep_folder: Path
) -> tuple[dict[str, Path], dict[str, float]]:
    try:
        from pipeline.sweeps import figures as sweep_figures
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        print(f"no figures: {error.name} is not installed; install it: make extras")
        return {}, {}
    labels = short(varied(best_trials))
    return sweep_figures.draw(best_trials, labels, metric, minimized(config), sweep_folder)


def minimized(config: DictConfig) -> bool:
    """Whether a lower metric is better."""
    return lower_is_better(config.search.metric or "")


def ranked(trials: Sequence[TrialRecord], config: DictConfig) -> list[TrialRecord]:
    """The finished trials with an objective, best first."""
    finished = [trial for trial in trials if trial.state == "FINISHED" and trial.value is not None]
    return sorted(finished, key=lambda trial: trial.objective, reverse=not minimized(config))


def varied(trials: Sequence[TrialRecord]) -> list[str]:
    """The parameters whose values differ between trials."""
    keys = dict.fromkeys(key for trial in trials for key in trial.parameters)
    return [key for key in keys if len({trial.parameters.get(key) for trial in trials}) > 1]


def short(keys: Sequence[str]) -> dict[str, str]:
    """A short label for each key: its last part, if that is unique."""
    last = {key: key.rpartition(".")[2] for key in keys}
    names = list(last.values())
    return {key: name if names.count(name) == 1 else key for key, name in last.items()}


def measured(trials: Sequence[TrialRecord], config: DictConfig) -> str:
    """The name of the metric that trials are compared by, such as ``val_f1``."""
    candidates = [config.search.metric] if config.search.metric else ["f1", "r2"]
    metrics = next((trial.metrics for trial in trials if trial.value is not None), {})
    names = (measured_as(name, metrics) for name in candidates)
    return next((name for name in names if name), candidates[0])


def as_table(trials: Sequence[TrialRecord], metric: str) -> pd.DataFrame:
    """A table with one row per trial."""
    rows = []
    for trial in trials:
        row = {"trial": trial.number, "state": trial.state.lower(), metric: trial.value}
        row |= {"seconds": trial.seconds, **trial.parameters}
        row |= {key: value for key, value in trial.metrics.items() if key != metric}
        rows.append(row | {"error": trial.error.partition("\n")[0], "mlflow_run": trial.run})
    return pd.DataFrame(rows)
