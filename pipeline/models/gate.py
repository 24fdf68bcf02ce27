"""The gate of a promotion: measures a candidate beside the version in production."""

import contextlib
import io
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from pipeline.core.errors import PipelineError
from pipeline.core.metrics import lower_is_better
from pipeline.core.settings import ROOT
from pipeline.models import environment as model_environment
from pipeline.models import registry, sections
from pipeline.models.registry import Version
from pipeline.models.scoring import Loaded
from pipeline.provenance import origin
from pipeline.science import splitting
from pipeline.science.data.tables import read_cells, write_table
from pipeline.tracking import Tracker, TrackerRun

USUAL_METRICS = ("f1", "r2")


@dataclass
class Gate:
    """``conf/promotion``: what a candidate has to reach."""

    metric: str | None = MISSING
    margin: float = MISSING
    minimum: dict[str, float] = MISSING
    maximum: dict[str, float] = MISSING
    wandb_registry: str | None = None  # a file of ones own may lack it
    beat_baseline: bool = MISSING


@dataclass(frozen=True)
class Check:
    """One thing the gate looks at, and how it went."""

    passed: bool
    text: str


@dataclass
class Verdict:
    """What the gate says of a candidate.

    Attributes:
        version: the candidate.
        production: the version it was compared with, if there is one.
        test: the test data, as ``name:version``.
        metrics: by version number, what it scored on that data just now.
        notes: what is to be known of the comparison, a line each.
    """

    version: Version
    production: Version | None
    test: str
    rows: int = 0
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the candidate may go into production."""
        return all(check.passed for check in self.checks)

    def failures(self) -> str:
        """Why it may not."""
        return "; ".join(check.text for check in self.checks if not check.passed)

    def lines(self) -> list[str]:
        """The comparison and each check, for the user to read."""
        of = f" ({self.rows} rows)" if self.rows else ""
        against = f" against version {self.production.number}" if self.production else ""
        said = [f"{self.version.name} version {self.version.number}{against}, on {self.test}{of}"]
        said += [f"note    {note}" for note in self.notes]
        columns = list(self.metrics)
        if columns:
            said.append(f"{'':20}" + "".join(f"{f'version {number}':>12}" for number in columns))
        for name in next(iter(self.metrics.values()), {}):
            cells = [self.metrics[number].get(name) for number in columns]
            shown = "".join(f"{'-' if cell is None else format(cell, '.4f'):>12}" for cell in cells)
            said.append(f"{name:20}{shown}")
        return said + [f"{'passed' if one.passed else 'FAILED'}  {one.text}" for one in self.checks]


def gate(overrides: list[str]) -> Gate:
    """The gate's settings: a file of ``conf/promotion``, and what the command line puts over it.

    Raises:
        PipelineError: a file, key or value that can't be.
    """
    return sections.read("promotion", Gate, overrides, "the gate")


def judge(version: Version, rules: Gate, env_manager: str) -> Verdict:
    """Measure a version, and the one in production, in fresh processes and on the same data.

    Raises:
        PipelineError: the test data is not there any more, or the version's own files are not.
    """
    if "test" not in version.data:
        raise PipelineError(
            f"version {version.number} does not say what it was measured on",
            "register it by the training step",
        )
    production = registry.production(version.name)
    reference, digest = version.data["test"]
    verdict = Verdict(version, production, reference)
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder, _recorded(version) as run:
        found = run.use_artifact(reference, Path(folder))
        if found.digest != digest:
            raise PipelineError(
                f"{reference} is not what version {version.number} was measured on: its digest is "
                f"{found.digest[:12]}, and was {digest[:12]}",
                "use the tracker and the project that it was trained with",
            )
        test, told = found.file(), {}
        if production and production.test_digest != version.test_digest:
            known = _training_rows(run, production, Path(folder, "production"))
            test = unseen(verdict, known, test, Path(folder, "unseen.csv"))
        for one in [version, *([production] if production else [])]:
            told[one.number] = in_fresh_process(one, env_manager, test, verdict)
        if told[version.number]:
            run.log(told[version.number]["metrics"])
    measured = {number: result for number, result in told.items() if result}
    verdict.rows = next((result["rows"] for result in measured.values()), 0)
    verdict.metrics = {number: result["metrics"] for number, result in measured.items()}
    if version.number in measured:
        verdict.checks += _limits(verdict.metrics[version.number], rules)
        if rules.beat_baseline:
            verdict.checks.append(_beats(measured[version.number], rules))
    if production and len(measured) == len({version.number, production.number}):
        verdict.checks += _comparison(verdict, rules)
        verdict.checks += _compatible(version, production, told)
    return verdict


@contextlib.contextmanager
def _recorded(version: Version) -> Iterator[TrackerRun]:
    """A run in the tracker that the version's data is in, so that its lineage shows the gate."""
    store = version.tags.get("tracker.store", "")
    tracker = Tracker.from_store(store)
    if not tracker.is_at(store):
        raise PipelineError(
            f"version {version.number} was trained with another tracker: {store}",
            f"this is {tracker.store}: set WANDB_BASE_URL or TRACKIO_SERVER_URL to that one",
        )
    name = f"promotion-{version.name}-{version.number}"
    told = {"model": version.name, "version": version.number, "who": origin.developer()}
    with contextlib.redirect_stdout(io.StringIO()):  # Trackio greets and takes its leave
        run = tracker.open_run(job_type="promotion", name=name, config=told)
        with contextlib.ExitStack() as on_failure:
            on_failure.push(lambda _, error, __: run.finish(failed=True, error=error))
            if version.artifact and tracker.find(version.artifact):  # what is measured is MLflow's
                with tempfile.TemporaryDirectory() as folder:
                    run.use_artifact(version.artifact, Path(folder))
            yield run
            on_failure.pop_all()
        run.finish()


def _training_rows(run: TrackerRun, version: Version, folder: Path) -> Path | None:
    """What a version was trained on, unless it is gone."""
    reference, digest = version.data.get("train", ("", ""))
    try:
        found = run.use_artifact(reference, folder) if reference else None
    except PipelineError:
        return None
    return found.file() if found and found.digest == digest else None


def unseen(verdict: Verdict, known: Path | None, test: Path, into: Path) -> Path:
    """The test rows that the version in production was not trained on, as a file.

    Where none is left, or that is not known, all of them; the verdict says so.

    Args:
        verdict: is told what is left out.
        known: the rows that the version was trained on, if they are there.
        test: the test rows.
        into: a file for those that are left.
    """
    who = f"version {verdict.production.number}, in production, was"
    if known is None:
        verdict.notes.append(
            f"{who} measured on other test data, and its training rows are gone: it may have been "
            "trained on some of these rows"
        )
        return test
    rows = read_cells(test)
    left = splitting.unseen(read_cells(known), rows)
    if len(left) == len(rows):
        return test
    if left.empty:
        text = f"{who} trained on all {len(rows)} test rows, so the two can't be compared on them"
        verdict.checks.append(Check(False, text))
        return test
    verdict.notes.append(
        f"{who} trained on {len(rows) - len(left)} of {len(rows)} test rows, which are left out"
    )
    return write_table(left, into)


def in_fresh_process(
    version: Version, env_manager: str, test: Path | None, verdict: Verdict | None = None
) -> dict[str, Any]:
    """What a version's model comes to in a process and an environment of its own.

    Raises:
        PipelineError: it does not load or predict, and there is no verdict to note that in.
    """
    folder = registry.fetch(version)
    python = model_environment.python(folder, env_manager)
    command = [
        str(python),
        "-m",
        "pipeline.models.scoring",
        str(folder),
        *([str(test)] if test else []),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    ok = done.returncode == 0
    if ok:
        text = f"version {version.number} loads and predicts in a fresh process"
    else:
        why = " ".join(done.stderr.strip().splitlines()[-2:]) or "it ended"
        text = f"version {version.number} does not work in a fresh process: {why}"
    if verdict is not None:
        verdict.checks.append(Check(ok, text))
    elif not ok:
        raise PipelineError(text, "nothing was changed; promote another version")
    return json.loads(done.stdout.splitlines()[-1]) if ok else {}


def _limits(metrics: Mapping[str, float], rules: Gate) -> Iterator[Check]:
    """The smallest and the largest values allowed."""
    for name, limit in rules.minimum.items():
        if name in metrics:
            text = f"{name} is {metrics[name]:.4f}, and has to be at least {limit:g}"
            yield Check(metrics[name] >= limit, text)
    for name, limit in rules.maximum.items():
        if name in metrics:
            text = f"{name} is {metrics[name]:.4f}, and has to be at most {limit:g}"
            yield Check(metrics[name] <= limit, text)
    named = [*rules.minimum, *rules.maximum]
    if named and not set(named) & set(metrics):
        text = f"none of {', '.join(named)} is measured (promotion.minimum, promotion.maximum)"
        yield Check(False, text)


def _beats(told: Mapping[str, Any], rules: Gate) -> Check:
    """Better than a model that gives one answer to all rows."""
    metrics, dummy = told["metrics"], told["baseline"]
    name = rules.metric if rules.metric in dummy else None
    name = name or next(usual for usual in USUAL_METRICS if usual in dummy)
    better = (metrics[name] - dummy[name]) * (-1 if lower_is_better(name) else 1) > 0
    text = f"{name} is {metrics[name]:.4f}, and one answer for all rows gives {dummy[name]:.4f}"
    return Check(better, text)


def _comparison(verdict: Verdict, rules: Gate) -> Iterator[Check]:
    """Not worse than production by more than the margin."""
    number, old = verdict.version.number, verdict.production.number
    new, now = verdict.metrics[number], verdict.metrics[old]
    name = rules.metric or next((usual for usual in USUAL_METRICS if usual in new), "")
    if name not in new or name not in now:
        text = f"promotion.metric={name!r} is not measured; there are: {', '.join(new)}"
        yield Check(False, text)
        return
    loss = (new[name] - now[name]) * (1 if lower_is_better(name) else -1)
    text = f"{name} is {new[name]:.4f}, and may be {rules.margin:g} worse than version {old}'s"
    yield Check(loss <= rules.margin, f"{text} {now[name]:.4f}")


def _compatible(version: Version, old: Version, told: Mapping[int, Mapping]) -> Iterator[Check]:
    """Whoever sends rows to production and reads its answers can go on as before."""
    new, before = (Loaded.from_folder(registry.fetch(one)) for one in (version, old))
    differences = [
        f"{name} ({kind})" for name, kind in new.kinds.items() if before.kinds.get(name) != kind
    ]
    if differences:
        text = f"needs columns that version {old.number} does not: {', '.join(differences)}"
    else:
        text = f"needs no other columns than version {old.number}"
    yield Check(not differences, text)
    same = told[version.number]["outputs"] == told[old.number]["outputs"]
    same = same and new.preparation["target"] == before.preparation["target"]
    text = "the same target and classes as" if same else "another target or other classes than"
    yield Check(same, f"predicts {text} version {old.number}")
