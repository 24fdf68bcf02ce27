"""Promotes a candidate to production through a gate, and rolls back.

MLflow's aliases say which version is in production. Tags of the registered model record who
promoted it, when and why. There is no other state.
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

LEASE = 120  # seconds after which the owner of a lock counts as dead
PATIENCE = 20  # seconds to wait for the lock; a promotion holds it only while it writes


def choose(
    name: str, number: str | None, run: str | None, best: bool, metric: str | None
) -> Version:
    """The version that the command line selects; the candidate by default.

    Args:
        name: the registered model.
        number: the version's number, or an alias.
        run: the id of the pipeline run, or of the MLflow run, that made the version.
        best: select the best of the versions that are comparable with the newest.
        metric: what ``best`` compares; None means the first of the usual metrics.

    Raises:
        PipelineError: no version matches.
    """
    if not (run or best):
        return registry.find(name, number or CANDIDATE)
    versions = registry.versions(name)
    if run:
        matching = [version for version in versions if run in (version.run, version.mlflow_run)]
        if not matching:
            runs = [version.run for version in versions]
            raise PipelineError(
                f"run {run!r} has registered no version of {name}{did_you_mean(run, runs)}",
                "python main.py prints a run's id; a reused model belongs to the run that trained "
                "it",
            )
        return matching[0]
    metric = metric or next(
        (usual for usual in USUAL_METRICS if versions and usual in versions[0].metrics), ""
    )
    ranked, key = comparable(versions, metric)
    if not ranked:
        raise PipelineError(f"no version of {name} was measured by {metric!r}", "give --version")
    sign = -1 if lower_is_better(metric) else 1
    return max(ranked, key=lambda version: (sign * version.metrics[key], version.number))


def comparable(versions: Sequence[Version], metric: str) -> tuple[list[Version], str]:
    """The versions that can be ranked with the newest, and the key of the metric in them.

    Comparable versions have the newest version's test data, and were measured as it was: on
    held-out training rows (key ``val_f1``) or on the test data (key ``f1``).

    Args:
        versions: the newest first.
        metric: its name without a prefix.
    """
    if not versions:
        return [], metric
    newest = versions[0]
    key = measured_as(metric, newest.metrics) or metric
    measured = [version for version in versions if measured_as(metric, version.metrics) == key]
    return [version for version in measured if version.test_digest == newest.test_digest], key


def promote(version: Version, verdict: Verdict, why: str, force: bool) -> Promotion:
    """Put a version into production if it passed the gate, or by force.

    Raises:
        PipelineError: the version failed the gate, or production changed in the meantime.
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
    """Put the previous version back into production; a second rollback undoes the first.

    Raises:
        PipelineError: there is no previous version, or it does not load.
    """
    if PREVIOUS not in registry.registered(name).aliases:
        raise PipelineError(
            f"{name} has no version to go back to: at most one was ever in production",
            "python -m pipeline promote --version N promotes another version",
        )
    production, previous = registry.production(name), registry.find(name, PREVIOUS)
    in_fresh_process(previous, env_manager, None)
    return _move("rollback", previous, production, why or "rolled back", False)


def _move(action: str, new: Version, expected: Version | None, why: str, forced: bool) -> Promotion:
    """Write the history, then the aliases, under the lock.

    The history comes first: if this process is killed in between, production is unchanged, and no
    version is ever in production without a line in the history.

    Args:
        action: ``promote`` or ``rollback``.
        new: the version to put into production.
        expected: the version that the caller saw in production.
        why: the reason, for the history.
        forced: whether the gate failed.

    Raises:
        PipelineError: another version than expected is in production by now.
    """
    client, name, user = mlflow_store.existing(), new.name, origin.developer()
    old = expected.number if expected else None
    with _promotion_lock(name, user):
        model, past = registry.registered(name), registry.history(name)
        current = model.aliases.get(PRODUCTION)
        if (current and int(current)) != old:
            by = f" by {past[-1].who}" if past else ""
            raise PipelineError(
                f"version {current} was put into production{by} meanwhile",
                f"run it again: version {new.number} is then compared with that one",
            )
        number = len(past) + 1
        promotion = Promotion(number, action, old, new.number, user, datetime.now(UTC), why, forced)
        client.set_registered_model_tag(name, f"{PROMOTION}{number:05}", promotion.text())
        if expected:
            client.set_registered_model_alias(name, PREVIOUS, str(old))
        client.set_registered_model_alias(name, PRODUCTION, str(new.number))
    return promotion


@contextlib.contextmanager
def _promotion_lock(name: str, user: str) -> Iterator[None]:
    """Hold the lock of a registered model, for all users of the MLflow store.

    The lock is a registered model of its own. Names are unique in the store's database, so only
    one of two concurrent creations succeeds. The lock of a dead owner expires after its lease.

    Raises:
        PipelineError: another promotion holds the lock for too long.
    """
    client, lock, token = mlflow_store.existing(), f"{name}{LOCK}", uuid.uuid4().hex
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client.create_registered_model(lock, tags={"who": user, "token": token})
            break
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        with contextlib.suppress(MlflowException):  # released in the meantime
            holder = client.get_registered_model(lock)
            if time.time() - (holder.creation_timestamp or 0) / 1000 > LEASE:
                client.delete_registered_model(lock)
            elif time.monotonic() > deadline:
                raise PipelineError(
                    f"{holder.tags['who']} is promoting a version of {name} at this moment",
                    f"try again; the lock of a dead process expires after {LEASE} seconds",
                )
        time.sleep(0.1)  # MLflow can't notify
    try:
        yield
    finally:
        with contextlib.suppress(MlflowException):  # the lease expired, and the lock is gone
            if client.get_registered_model(lock).tags.get("token") == token:
                client.delete_registered_model(lock)


def move_tracker_aliases(name: str, wandb_registry: str | None = None) -> list[str]:
    """Copy the aliases production and previous to the tracker's model artifacts.

    Args:
        name: the registered model.
        wandb_registry: the W&B registry to link the artifacts to.

    Returns:
        The problems, as warnings for the user.
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
