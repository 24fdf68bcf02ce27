"""What a sweep came to: the table of its best trials, its figures, and where they go."""

import contextlib
import csv
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pandas as pd
from omegaconf import DictConfig
from rich.table import Table

from pipeline.core import settings
from pipeline.core.metrics import lower_is_better, measured_as
from pipeline.core.numbers import number
from pipeline.orchestration.terminal import PlainConsole
from pipeline.sweeps import page
from pipeline.sweeps.record import TrialRecord
from pipeline.tracking import Tracker

BEST = 10
SHORTEST = 3  # finished trials that figures can be drawn of
MEASURING = ("model.validation", "model.cv")  # how trials are compared, not what a model is

# A quoted value that means the same without its quotes, which a shell would want quoted in turn
PLAIN = re.compile(r"^([^=]+=)'(?!(?:null|true|false|nan|inf)')([A-Za-z]\w*)'$", re.IGNORECASE)


def show(found: Sequence[TrialRecord], config: DictConfig, id: str, folder: Path) -> None:
    """Print the best trials, and how to train the best one for good."""
    name, console = measured(found, config), PlainConsole()
    keys, best = varied(found), ranked(found, config)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("trial", justify="right")
    for key in (*short(keys).values(), name, "seconds"):
        table.add_column(key, justify="right", overflow="fold")
    for one in best[:BEST]:
        given = (one.parameters.get(key, "") for key in keys)
        seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
        table.add_row(str(one.number), *given, number(one.value), seconds)
    console.print()
    if best:
        console.print(table)
        console.print("\nthe best one, trained on all training data:", style="dim")
        console.print(f"  {command(best[0])}", markup=False, soft_wrap=True)
    console.print(f"sweep {id}: {folder}", style="dim", markup=False, soft_wrap=True)


def command(one: TrialRecord) -> str:
    """The command that trains a trial's model on all training rows."""
    return "python main.py " + shlex.join(PLAIN.sub(r"\1\2", word) for word in words(one))


def words(one: TrialRecord) -> list[str]:
    """The overrides that train a trial's model with no rows held out to measure it."""
    return [w for w in one.overrides if w.lstrip("+").partition("=")[0] not in MEASURING]


def log(
    found: Sequence[TrialRecord],
    config: DictConfig,
    id: str,
    run: str,
    folder: Path,
    tracker: Tracker,
) -> None:
    """Write table and figures into the sweep's folder, and log them to MLflow and the tracker."""
    name, into = measured(found, config), folder / "sweep"
    into.mkdir(parents=True, exist_ok=True)
    table = as_table(found, name)
    table.to_csv(into / "trials.csv", index=False, quoting=csv.QUOTE_MINIMAL)
    best, pictures, importances = ranked(found, config), {}, {}
    if len(best) >= SHORTEST and varied(best):
        pictures, importances = _drawn(best, name, config, into)
    again, keys = command(best[0]) if best else "", short(varied(found))
    result = page.Result(found, best, keys, name, minimized(config), again, importances)
    (into / "sweep.html").write_text(page.render(result, config, id), encoding="utf-8")
    client = mlflow.MlflowClient(settings.tracking_uri())
    client.log_artifacts(run, str(into), "sweep")
    if best:
        client.log_metric(run, "best", best[0].value)
        client.set_tag(run, "pipeline.best", str(best[0].number))
    with (into / "tracker.log").open("w") as said, contextlib.redirect_stdout(said):
        told = {"sweep": id, "metric": name, "experiment": config.main.experiment_name}
        recording = tracker.open_run(job_type="sweep", name=f"sweep-{id}", config=told)
        if best:
            recording.log({f"best_{name}": best[0].value})
        if pictures:
            recording.log(pictures)
        recording.log({"trials": table})
        recording.finish(failed=not best)
    hint = tracker.dashboard([recording.url] if recording.url else [])
    PlainConsole().print(hint, style="dim", soft_wrap=True)


def _drawn(
    best: Sequence[TrialRecord], name: str, config: DictConfig, into: Path
) -> tuple[dict[str, Path], dict[str, float]]:
    try:
        from pipeline.sweeps import figures as sweep_figures
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        print(f"no figures: {error.name} is not installed; install it: make extras")
        return {}, {}
    return sweep_figures.draw(best, short(varied(best)), name, minimized(config), into)


def minimized(config: DictConfig) -> bool:
    """Whether less of the metric is better."""
    return lower_is_better(config.search.metric or "")


def ranked(found: Sequence[TrialRecord], config: DictConfig) -> list[TrialRecord]:
    """The trials that came to something, the best first."""
    finished = [one for one in found if one.state == "FINISHED" and one.value is not None]
    return sorted(finished, key=lambda one: one.value, reverse=not minimized(config))


def varied(found: Sequence[TrialRecord]) -> list[str]:
    """The keys that do not have the same value in all trials."""
    keys = dict.fromkeys(key for one in found for key in one.parameters)
    return [key for key in keys if len({one.parameters.get(key) for one in found}) > 1]


def short(keys: Sequence[str]) -> dict[str, str]:
    """Keys without their first parts, where that leaves them different."""
    last = {key: key.rpartition(".")[2] for key in keys}
    names = list(last.values())
    return {key: name if names.count(name) == 1 else key for key, name in last.items()}


def measured(found: Sequence[TrialRecord], config: DictConfig) -> str:
    """The name of what trials are compared by, such as ``val_f1``."""
    usual = [config.search.metric] if config.search.metric else ["f1", "r2"]
    metrics = next((one.metrics for one in found if one.value is not None), {})
    names = (measured_as(name, metrics) for name in usual)
    return next((name for name in names if name), usual[0])


def as_table(found: Sequence[TrialRecord], name: str) -> pd.DataFrame:
    """All trials, one a row."""
    rows = []
    for one in found:
        row = {"trial": one.number, "state": one.state.lower(), name: one.value}
        row |= {"seconds": one.seconds, **one.parameters}
        row |= {key: value for key, value in one.metrics.items() if key != name}
        rows.append(row | {"error": one.error.partition("\n")[0], "mlflow_run": one.run})
    return pd.DataFrame(rows)
