"""From candidate to production, through a gate, and back.

The gate is measured now, on the test data that the candidate was measured on when it was made.
MLflow's aliases say which version is in production, and tags of the registered model say who put
it there; nothing is kept anywhere else.
"""

import contextlib
import io
import json
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline import ROOT, app, mlflow_store, model_environment, provenance, registry, tracking
from pipeline.errors import PipelineError, did_you_mean
from pipeline.history import lower_is_better
from pipeline.registration import CANDIDATE
from pipeline.registry import LOCK, PREVIOUS, PRODUCTION, PROMOTION, Promotion, Version
from pipeline.scoring import Loaded

USUAL = ("f1", "r2")
LEASE = 120  # seconds after which a promotion that holds the lock counts as dead
PATIENCE = 20  # seconds to wait for another promotion; it holds the lock for a moment


@dataclass
class Gate:
    """``conf/promotion``: what a candidate has to reach."""

    metric: str | None = MISSING
    margin: float = MISSING
    minimum: dict[str, float] = MISSING
    maximum: dict[str, float] = MISSING


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
    """

    version: Version
    production: Version | None
    test: str
    rows: int = 0
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

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
    store = ConfigStore.instance()
    store.store(name="promotion_schema", node=Gate, package="promotion")
    store.store(name="gate", node={"defaults": ["promotion_schema", {"promotion": "default"}]})
    for override in overrides:
        key = ".".join(override.partition("=")[0].lstrip("+~").split(".")[:2])
        known = ["promotion", *(f"promotion.{name}" for name in Gate.__dataclass_fields__)]
        if key not in known:
            raise PipelineError(
                f"{override!r} is no setting of the gate{did_you_mean(key, known)}",
                f"they are: {', '.join(known)}; conf/promotion/default.yaml says what they mean",
            )
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return OmegaConf.to_object(compose("gate", overrides).promotion)
    except (HydraException, OmegaConfBaseException) as error:
        raise app.explain(error) from error


def choose(
    name: str, number: str | None, run: str | None, best: bool, metric: str | None
) -> Version:
    """The version that the command line means; without a word, the candidate.

    Args:
        name: the registered model.
        number: its number, or an alias.
        run: the id of the pipeline run, or of the MLflow run, that made it.
        best: the one that scored best of those measured on the newest version's test data.
        metric: in what; None means the usual one.

    Raises:
        PipelineError: there is none.
    """
    if not (run or best):
        return registry.find(name, number or CANDIDATE)
    versions = registry.versions(name)
    if run:
        found = [version for version in versions if run in (version.run, version.mlflow_run)]
        if not found:
            runs = [version.run for version in versions]
            raise PipelineError(
                f"run {run!r} has registered no version of {name}{did_you_mean(run, runs)}",
                "python main.py prints a run's id; a step that was handed on belongs to the run "
                "that made it",
            )
        return found[0]
    metric = metric or next((one for one in USUAL if versions and one in versions[0].metrics), "")
    test = versions[0].data.get("test") if versions else None
    measured = [one for one in versions if one.data.get("test") == test and metric in one.metrics]
    if not measured:
        raise PipelineError(f"no version of {name} was measured by {metric!r}", "give --version")
    sign = -1 if lower_is_better(metric) else 1
    return max(measured, key=lambda version: (sign * version.metrics[metric], version.number))


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
        found = run.use(reference, Path(folder))
        if found.digest != digest:
            raise PipelineError(
                f"{reference} is not what version {version.number} was measured on: its digest is "
                f"{found.digest[:12]}, and was {digest[:12]}",
                "use the tracker and the project that it was trained with",
            )
        told = {}
        for one in [version, *([production] if production else [])]:
            told[one.number] = _fresh(one, env_manager, found.file, verdict)
        if told[version.number]:
            run.log_metrics(told[version.number]["metrics"])
    measured = {number: result for number, result in told.items() if result}
    verdict.rows = next((result["rows"] for result in measured.values()), 0)
    verdict.metrics = {number: result["metrics"] for number, result in measured.items()}
    if version.number in measured:
        verdict.checks += _limits(verdict.metrics[version.number], rules)
    if production and len(measured) == len({version.number, production.number}):
        verdict.checks += _comparison(verdict, rules)
        verdict.checks += _compatible(version, production, told)
    return verdict


@contextlib.contextmanager
def _recorded(version: Version) -> Iterator[tracking.TrackerRun]:
    """A run in the tracker that the version's data is in, so that its lineage shows the gate."""
    store = version.tags.get("tracker.store", "")
    kind, project = store.partition(" ")[0], store.rpartition(" ")[2]
    os.environ["WANDB_PROJECT"] = project or os.environ.get("WANDB_PROJECT", "")
    kind = tracking.choose(kind or "auto")
    if tracking.store(kind) != store:
        raise PipelineError(
            f"version {version.number} was trained with another tracker: {store}",
            f"this is {tracking.store(kind)}: set WANDB_BASE_URL or TRACKIO_SERVER_URL to that one",
        )
    name = f"promotion-{version.name}-{version.number}"
    told = {"model": version.name, "version": version.number, "who": provenance.developer()}
    with contextlib.redirect_stdout(io.StringIO()):  # Trackio greets and takes its leave
        run = tracking.open_run(kind, job_type="promotion", name=name, config=told)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(run.finish, failed=True)
            yield run
            on_failure.pop_all()
        run.finish()


def _fresh(
    version: Version, env_manager: str, test: Path | None, verdict: Verdict | None = None
) -> dict[str, Any]:
    """What a version's model comes to in a process and an environment of its own.

    Raises:
        PipelineError: it does not load or predict, and there is no verdict to note that in.
    """
    folder = registry.fetch(version)
    python = model_environment.python(folder, env_manager)
    command = [str(python), "-m", "pipeline.scoring", str(folder), *([str(test)] if test else [])]
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


def _comparison(verdict: Verdict, rules: Gate) -> Iterator[Check]:
    """Not worse than production by more than the margin."""
    number, old = verdict.version.number, verdict.production.number
    new, now = verdict.metrics[number], verdict.metrics[old]
    name = rules.metric or next((usual for usual in USUAL if usual in new), "")
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


def promote(version: Version, verdict: Verdict, why: str, force: bool) -> Promotion:
    """Put a version into production, if its verdict or force allows it.

    Raises:
        PipelineError: the gate says no; or somebody else has changed production meanwhile.
    """
    forced = not verdict.passed
    if forced and not force:
        raise PipelineError(
            f"version {version.number} was not promoted: {verdict.failures()}",
            "train a better one; or --force --why REASON, which is kept in the history",
        )
    reason = why or "passed the gate"
    reason += f" (the gate had said: {verdict.failures()})" if forced else ""
    return _move("promote", version, verdict.production, reason, forced)


def rollback(name: str, why: str, env_manager: str) -> Promotion:
    """Put the previous version back into production; once more, and it is undone.

    Raises:
        PipelineError: there is no previous one, or it does not load.
    """
    if PREVIOUS not in registry.registered(name).aliases:
        raise PipelineError(
            f"{name} has no version to go back to: only one was ever in production, or none",
            "python -m pipeline promote --version N puts another one there",
        )
    production, previous = registry.production(name), registry.find(name, PREVIOUS)
    _fresh(previous, env_manager, None)
    return _move("rollback", previous, production, why or "rolled back", False)


def _move(action: str, new: Version, seen: Version | None, why: str, forced: bool) -> Promotion:
    """Write the history, then the aliases, while nobody else does.

    The history comes first: were this process killed in between, the next promotion would find
    the alias where it was, and nothing in production that nobody has written down.
    """
    client, name, who = mlflow_store.existing(), new.name, provenance.developer()
    old = seen.number if seen else None
    with _alone(name, who):
        found, before = registry.registered(name), registry.history(name)
        now = found.aliases.get(PRODUCTION)
        if (now and int(now)) != old:
            last = f" by {before[-1].who}" if before else ""
            raise PipelineError(
                f"version {now} was put into production{last} meanwhile",
                f"run it again: version {new.number} is then compared with that one",
            )
        number = len(before) + 1
        done = Promotion(number, action, old, new.number, who, datetime.now(UTC), why, forced)
        client.set_registered_model_tag(name, f"{PROMOTION}{number:05}", done.text())
        if seen:
            client.set_registered_model_alias(name, PREVIOUS, str(old))
        client.set_registered_model_alias(name, PRODUCTION, str(new.number))
    return done


@contextlib.contextmanager
def _alone(name: str, who: str) -> Iterator[None]:
    """Hold a lock that every user of the same MLflow store respects.

    A registered model's name is unique in the store's database, so of two who make the same one
    at once, one is refused. A lock whose owner has died is taken over after its lease.
    """
    client, lock, token = mlflow_store.existing(), f"{name}{LOCK}", uuid.uuid4().hex
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            client.create_registered_model(lock, tags={"who": who, "token": token})
            break
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        with contextlib.suppress(MlflowException):  # it has been let go of just now
            held = client.get_registered_model(lock)
            if time.time() - held.creation_timestamp / 1000 > LEASE:
                client.delete_registered_model(lock)
            elif time.monotonic() > limit:
                raise PipelineError(
                    f"{held.tags['who']} is promoting a version of {name} at this moment",
                    f"try again; should that have died, its lock ends after {LEASE} seconds",
                )
        time.sleep(0.1)  # a server tells nobody when a lock is free
    try:
        yield
    finally:
        with contextlib.suppress(MlflowException):  # taken over by somebody, after the lease
            if client.get_registered_model(lock).tags.get("token") == token:
                client.delete_registered_model(lock)


def move_tracker_aliases(name: str) -> list[str]:
    """Put production and previous on the tracker's model artifacts too; what could not be done."""
    problems = []
    for alias in (PREVIOUS, PRODUCTION):
        if alias not in registry.registered(name).aliases:
            continue
        version = registry.find(name, alias)
        store = version.tags.get("tracker.store", "")
        os.environ["WANDB_PROJECT"] = store.rpartition(" ")[2]
        try:
            tracking.set_alias(tracking.choose(store.partition(" ")[0]), version.artifact, alias)
        except PipelineError as error:
            problems.append(f"{error.what} ({error.remedy})")
    return problems
