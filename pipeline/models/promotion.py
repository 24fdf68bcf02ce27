"""From candidate to production, through a gate, and back.

The gate is measured now, on the test data that the candidate was measured on when it was made.
MLflow's aliases say which version is in production, and tags of the registered model say who put
it there; nothing is kept anywhere else.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.metrics import lower_is_better, measured_as
from pipeline.models import registry
from pipeline.models.gate import USUAL_METRICS, Verdict, in_fresh_process
from pipeline.models.registry import LOCK, PREVIOUS, PRODUCTION, PROMOTION, Promotion, Version
from pipeline.provenance import origin
from pipeline.tracking import Tracker
from pipeline.tracking.mlflow import store as mlflow_store
from pipeline.tracking.mlflow.registration import CANDIDATE

LEASE = 120  # seconds after which a promotion that holds the lock counts as dead
PATIENCE = 20  # seconds to wait for another promotion; it holds the lock for a moment


def choose(
    name: str, number: str | None, run: str | None, best: bool, metric: str | None
) -> Version:
    """The version that the command line means; without a word, the candidate.

    Args:
        name: the registered model.
        number: its number, or an alias.
        run: the id of the pipeline run, or of the MLflow run, that made it.
        best: the best of those that were measured as the newest version was, on the same data.
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
    metric = metric or next(
        (one for one in USUAL_METRICS if versions and one in versions[0].metrics), ""
    )
    measured, way = comparable(versions, metric)
    if not measured:
        raise PipelineError(f"no version of {name} was measured by {metric!r}", "give --version")
    sign = -1 if lower_is_better(metric) else 1
    return max(measured, key=lambda version: (sign * version.metrics[way], version.number))


def comparable(versions: Sequence[Version], metric: str) -> tuple[list[Version], str]:
    """The versions that can be ranked, and the metric in the way in which it was measured.

    They were measured in the same way as the newest one, on held-out training rows (``val_f1``) or
    on the test data (``f1``), and have the same test data.

    Args:
        versions: the newest first.
        metric: the metric.
    """
    if not versions:
        return [], metric
    newest = versions[0]
    way = measured_as(metric, newest.metrics) or metric
    alike = [one for one in versions if measured_as(metric, one.metrics) == way]
    return [one for one in alike if one.test_digest == newest.test_digest], way


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
    in_fresh_process(previous, env_manager, None)
    return _move("rollback", previous, production, why or "rolled back", False)


def _move(action: str, new: Version, seen: Version | None, why: str, forced: bool) -> Promotion:
    """Write the history, then the aliases, while nobody else does.

    The history comes first: were this process killed in between, the next promotion would find
    the alias where it was, and nothing in production that nobody has written down.
    """
    client, name, who = mlflow_store.existing(), new.name, origin.developer()
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


def move_tracker_aliases(name: str, wandb_registry: str | None = None) -> list[str]:
    """Put production and previous on the tracker's model artifacts too; what could not be done.

    Args:
        name: the registered model.
        wandb_registry: the registry of W&B's that they are linked to.
    """
    problems = []
    for alias in (PREVIOUS, PRODUCTION):
        if alias not in registry.registered(name).aliases:
            continue
        version = registry.find(name, alias)
        try:
            tracker = Tracker.from_store(version.tags.get("tracker.store", ""))
            tracker.set_alias(version.artifact, alias)
        except PipelineError as error:
            problems.append(f"the tracker's alias is not moved: {error.what} ({error.remedy})")
            continue
        try:
            if wandb_registry:
                tracker.link(version.artifact, wandb_registry, name, alias)
        except PipelineError as error:
            problems.append(f"the version is not linked: {error.what} ({error.remedy})")
    return problems
