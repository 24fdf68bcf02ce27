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
from pipeline.models.scoring import LoadedModel
from pipeline.provenance import origin
from pipeline.science import splitting
from pipeline.science.data.tables import read_cells, write_table
from pipeline.tracking import Tracker, TrackerRun

USUAL_METRICS = ("f1", "r2")


@dataclass
class Gate:
    """``conf/promotion``: the requirements of the gate."""

    metric: str | None = MISSING
    margin: float = MISSING
    minimum: dict[str, float] = MISSING
    maximum: dict[str, float] = MISSING
    wandb_registry: str | None = None  # optional: older files in conf/promotion lack it
    beat_baseline: bool = MISSING


@dataclass(frozen=True)
class Check:
    """A check of the gate, and its result."""

    passed: bool
    text: str


@dataclass
class Verdict:
    """The result of the gate for a candidate.

    Attributes:
        version: the candidate.
        production: the version in production that it is compared with, if there is one.
        test: the test data, as ``name:version``.
        rows: how many test rows were used.
        metrics: by version number, the metrics on these rows.
        checks: the checks, passed or failed.
        notes: remarks on the comparison, for the user.
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
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    def failures(self) -> str:
        """The failed checks as text."""
        return "; ".join(check.text for check in self.checks if not check.passed)

    def lines(self) -> list[str]:
        """The comparison and each check, as lines for the user."""
        of = f" ({self.rows} rows)" if self.rows else ""
        against = f" against version {self.production.number}" if self.production else ""
        lines = [f"{self.version.name} version {self.version.number}{against}, on {self.test}{of}"]
        lines += [f"note    {note}" for note in self.notes]
        columns = list(self.metrics)
        if columns:
            lines.append(f"{'':20}" + "".join(f"{f'version {number}':>12}" for number in columns))
        for name in next(iter(self.metrics.values()), {}):
            cells = [self.metrics[number].get(name) for number in columns]
            values = "".join(
                f"{'-' if cell is None else format(cell, '.4f'):>12}" for cell in cells
            )
            lines.append(f"{name:20}{values}")
        return lines + [
            f"{'passed' if check.passed else 'FAILED'}  {check.text}" for check in self.checks
        ]


def read(overrides: list[str]) -> Gate:
    """The gate's settings: a file of ``conf/promotion``, with overrides from the command line.

    Raises:
        PipelineError: a file, a key or a value is not valid.
    """
    return sections.read("promotion", Gate, overrides, "the gate")


def judge(version: Version, rules: Gate, env_manager: str) -> Verdict:
    """Measure a version and the version in production on the same data, each in a fresh process.

    Raises:
        PipelineError: the test data or the version's files are missing.
    """
    if "test" not in version.data:
        raise PipelineError(
            f"version {version.number} has no record of its test data",
            "promote a version that the training step registered",
        )
    production = registry.production(version.name)
    reference, digest = version.data["test"]
    verdict = Verdict(version, production, reference)
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder, _tracker_run(version) as run:
        test_data = run.use_artifact(reference, Path(folder))
        if test_data.digest != digest:
            raise PipelineError(
                f"{reference} is not the test data of version {version.number}: its digest is "
                f"{test_data.digest[:12]}, and was {digest[:12]}",
                "use the tracker and the project that the version was trained with",
            )
        test = test_data.file()
        if production and production.test_digest != version.test_digest:
            training_rows = _training_rows(run, production, Path(folder, "production"))
            test = unseen(verdict, production, training_rows, test, Path(folder, "unseen.csv"))
        versions = [version, *([production] if production else [])]
        results = {v.number: in_fresh_process(v, env_manager, test, verdict) for v in versions}
        if results[version.number]:
            run.log(results[version.number]["metrics"])
    measured = {number: result for number, result in results.items() if result}
    verdict.rows = next((result["rows"] for result in measured.values()), 0)
    verdict.metrics = {number: result["metrics"] for number, result in measured.items()}
    if version.number in measured:
        verdict.checks += _limits(verdict.metrics[version.number], rules)
        if rules.beat_baseline:
            verdict.checks.append(_beats(measured[version.number], rules))
    if production and len(measured) == len({version.number, production.number}):
        verdict.checks += _comparison(verdict, production, rules)
        verdict.checks += _compatible(version, production, results)
    return verdict


@contextlib.contextmanager
def _tracker_run(version: Version) -> Iterator[TrackerRun]:
    """A run in the tracker of the version's data, so that the lineage shows the promotion."""
    store = version.tags.get("tracker.store", "")
    tracker = Tracker.from_store(store)
    if not tracker.is_at(store):
        raise PipelineError(
            f"version {version.number} was trained with another tracker: {store}",
            f"this is {tracker.store}: set WANDB_BASE_URL or TRACKIO_SERVER_URL to that one",
        )
    name = f"promotion-{version.name}-{version.number}"
    config = {"model": version.name, "version": version.number, "who": origin.developer()}
    with contextlib.redirect_stdout(io.StringIO()):  # Trackio prints at the start and the end
        run = tracker.open_run(job_type="promotion", name=name, config=config)
        with contextlib.ExitStack() as on_failure:
            on_failure.push(lambda _, error, __: run.finish(failed=True, error=error))
            if version.artifact and tracker.find(version.artifact):  # for lineage only
                with tempfile.TemporaryDirectory() as folder:
                    run.use_artifact(version.artifact, Path(folder))
            yield run
            on_failure.pop_all()
        run.finish()


def _training_rows(run: TrackerRun, version: Version, folder: Path) -> Path | None:
    """The training rows of a version; None if the tracker no longer has them."""
    reference, digest = version.data.get("train", ("", ""))
    try:
        artifact = run.use_artifact(reference, folder) if reference else None
    except PipelineError:
        return None
    return artifact.file() if artifact and artifact.digest == digest else None


def unseen(
    verdict: Verdict, production: Version, training_rows: Path | None, test: Path, path: Path
) -> Path:
    """Leave out the test rows that the version in production was trained on.

    Args:
        verdict: gets a note on the rows that are left out, or a failed check if all would be.
        production: the version in production.
        training_rows: the rows that it was trained on; None if they are gone.
        test: the test rows.
        path: the file to write the remaining rows to.

    Returns:
        ``path``, or ``test`` if no row is left out.
    """
    subject = f"version {production.number}, in production, was"
    if training_rows is None:
        verdict.notes.append(
            f"{subject} measured on other test data, and its training rows are gone: it may have "
            "been trained on some of these rows"
        )
        return test
    rows = read_cells(test)
    remaining = splitting.unseen(read_cells(training_rows), rows)
    if len(remaining) == len(rows):
        return test
    if remaining.empty:
        text = (
            f"{subject} trained on all {len(rows)} test rows, so the two can't be compared on them"
        )
        verdict.checks.append(Check(False, text))
        return test
    verdict.notes.append(
        f"{subject} trained on {len(rows) - len(remaining)} of {len(rows)} test rows, which are "
        "left out"
    )
    return write_table(remaining, path)


def in_fresh_process(
    version: Version, env_manager: str, test: Path | None, verdict: Verdict | None = None
) -> dict[str, Any]:
    """Load and measure a version's model in a process and an environment of its own.

    Args:
        version: the version.
        env_manager: the tool that builds the model's environment.
        test: test rows; None only loads the model.
        verdict: gets a check whether the model works.

    Returns:
        The output of :func:`pipeline.models.scoring.main`; empty if the model does not work.

    Raises:
        PipelineError: the model does not work, and there is no verdict.
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
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    works = process.returncode == 0
    if works:
        text = f"version {version.number} loads and predicts in a fresh process"
    else:
        reason = " ".join(process.stderr.strip().splitlines()[-2:]) or "it exited without a message"
        text = f"version {version.number} does not work in a fresh process: {reason}"
    if verdict is not None:
        verdict.checks.append(Check(works, text))
    elif not works:
        raise PipelineError(text, "nothing was changed; promote another version")
    return json.loads(process.stdout.splitlines()[-1]) if works else {}


def _limits(metrics: Mapping[str, float], rules: Gate) -> Iterator[Check]:
    """Check the metrics against ``promotion.minimum`` and ``promotion.maximum``."""
    for name, limit in rules.minimum.items():
        if name in metrics:
            text = f"{name} is {metrics[name]:.4f}, and has to be at least {limit:g}"
            yield Check(metrics[name] >= limit, text)
    for name, limit in rules.maximum.items():
        if name in metrics:
            text = f"{name} is {metrics[name]:.4f}, and has to be at most {limit:g}"
            yield Check(metrics[name] <= limit, text)
    limited = [*rules.minimum, *rules.maximum]
    if limited and not set(limited) & set(metrics):
        text = f"none of {', '.join(limited)} is measured (promotion.minimum, promotion.maximum)"
        yield Check(False, text)


def _beats(result: Mapping[str, Any], rules: Gate) -> Check:
    """Check that a version is better than the dummy baseline, one prediction for all rows."""
    metrics, dummy = result["metrics"], result["baseline"]
    name = rules.metric if rules.metric in dummy else None
    name = name or next(usual for usual in USUAL_METRICS if usual in dummy)
    is_better = (metrics[name] - dummy[name]) * (-1 if lower_is_better(name) else 1) > 0
    text = f"{name} is {metrics[name]:.4f}, and one answer for all rows gives {dummy[name]:.4f}"
    return Check(is_better, text)


def _comparison(verdict: Verdict, production: Version, rules: Gate) -> Iterator[Check]:
    """Check that the candidate is not worse than production by more than the margin."""
    number, old = verdict.version.number, production.number
    new, current = verdict.metrics[number], verdict.metrics[old]
    name = rules.metric or next((usual for usual in USUAL_METRICS if usual in new), "")
    if name not in new or name not in current:
        text = f"promotion.metric={name!r} is not measured; there are: {', '.join(new)}"
        yield Check(False, text)
        return
    loss = (new[name] - current[name]) * (1 if lower_is_better(name) else -1)
    text = f"{name} is {new[name]:.4f}, and may be {rules.margin:g} worse than version {old}'s"
    yield Check(loss <= rules.margin, f"{text} {current[name]:.4f}")


def _compatible(version: Version, old: Version, results: Mapping[int, Mapping]) -> Iterator[Check]:
    """Check that clients of the version in production can use the candidate without changes."""
    new, before = (LoadedModel.from_folder(registry.fetch(v)) for v in (version, old))
    differences = [
        f"{name} ({kind})" for name, kind in new.kinds.items() if before.kinds.get(name) != kind
    ]
    if differences:
        text = f"needs columns that version {old.number} does not: {', '.join(differences)}"
    else:
        text = f"needs no other columns than version {old.number}"
    yield Check(not differences, text)
    is_same = results[version.number]["outputs"] == results[old.number]["outputs"]
    is_same = is_same and new.preparation["target"] == before.preparation["target"]
    text = "the same target and classes as" if is_same else "another target or other classes than"
    yield Check(is_same, f"predicts {text} version {old.number}")
