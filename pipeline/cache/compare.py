"""What a step's result depends on, and whether all of it is unchanged.

:func:`key_parts` are known before the step runs; their digest is the cache key. The step itself
records the rest as :class:`~pipeline.core.tracing.dependencies.Evidence`: files read, packages and
environment variables. A result is reused only if the current state matches the evidence.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import yaml

from pipeline.core.files import file_digest
from pipeline.core.results import Reference
from pipeline.core.settings import ROOT
from pipeline.core.tracing import observations
from pipeline.core.tracing.dependencies import Evidence, keyed_digests, lock_digest, read_lock
from pipeline.steps.folders import library, step_files

Parts = dict[str, dict[str, Any]]


def key_parts(
    step: str, parameters: Mapping[str, Any], store: str, remote_environment: Mapping[str, Any]
) -> Parts:
    """The parts of a step's cache key, by kind and name.

    An input counts by its content, not by its version. Names, places and groups don't count.

    Args:
        step: the step's folder.
        parameters: its parameters; a :class:`Reference` counts by its digest.
        store: the tracker and project of its outputs.
        remote_environment: settings that decide the environment on another machine; else empty.
    """
    inputs = {k: v.digest for k, v in parameters.items() if isinstance(v, Reference)}
    return {
        "declared": declared_files(step, bool(remote_environment)),
        "parameter": {k: v for k, v in parameters.items() if k not in inputs},
        "input": inputs,
        "tracker": {"store": store},
        "backend": dict(remote_environment),
    }


def declared_files(step: str, remote: bool = False) -> dict[str, str]:
    """Digests of the MLproject and of the files that it lists as ``inputs``, by path."""
    folder = ROOT / step
    project = folder / "MLproject"
    text = project.read_text(encoding="utf-8")
    declares = "inputs" in text  # skip slow YAML parsing, as most files have none
    patterns = (declares and (yaml.safe_load(text) or {}).get("inputs")) or ()
    files = [project, *([folder / "conda.yml"] if remote else [])]
    for pattern in patterns:
        files += sorted(path for path in folder.glob(pattern) if path.is_file())
    return {observations.name_of(str(path)): file_digest(path) for path in files}


def digest(content: Mapping[str, Any]) -> str:
    """The digest of a mapping that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class CurrentState:
    """The state in which a step would run now.

    Args:
        key: the step's cache key.
        variables: the environment variables.
        lock: returns the lock of the step's packages; called at most once.
    """

    def __init__(self, key: str, variables: Mapping[str, str], lock: Callable[[], list[str]]):
        self.key, self._variables, self._lock = key, variables, lock

    @cached_property
    def packages(self) -> list[str]:
        """The lock of the packages."""
        return self._lock()

    @cached_property
    def environment(self) -> str:
        """The digest of the lock."""
        return lock_digest(self.packages)

    def values(self, names: Iterable[str], key: str) -> dict[str, str]:
        """Keyed digests of ``names`` and of the variables that libraries read."""
        return keyed_digests(self._variables, names, key)

    def matches(self, evidence: Evidence) -> bool:
        """Whether the state is the one that the evidence recorded."""
        return (
            self.values(evidence.variables, evidence.key) == evidence.variables
            and evidence.environment in ("", self.environment)
            and not observations.changed(evidence.proof)
        )

    def changed_parts(self, evidence: Evidence) -> tuple[Parts, Parts]:
        """The parts that differ, before and now, by kind and name."""
        values = self.values(evidence.variables, evidence.key)
        changed = observations.changed(evidence.proof)
        before: Parts = {"variable": dict(evidence.variables)}
        now: Parts = {"variable": dict(values)}
        for kind, name in changed:
            then = evidence.proof[kind][name]
            observed = observations.observe(kind, name, then)
            before.setdefault(kind, {})[name] = _text(kind, then)
            now.setdefault(kind, {})[name] = _text(kind, observed)
        if evidence.environment not in ("", self.environment):
            before["environment"] = _versions(read_lock(evidence.environment))
            now["environment"] = _versions(self.packages) or {"packages": "not installed yet"}
        return before, now


def untraced_evidence(step: str, current: CurrentState) -> Evidence:
    """The evidence of a step that was not traced because it ran on another machine.

    The step's own files count, and the modules of ``pipeline`` that they import.
    """
    folder = ROOT / step
    files = [*step_files(folder), *library(folder / "script.py")]
    digests = {observations.name_of(str(path)): file_digest(path) for path in files}
    return Evidence({observations.FILE: digests}, "", current.values((), current.key), current.key)


def _versions(lock: Iterable[str]) -> dict[str, str]:
    """The versions in a lock, by package."""
    pairs = (line.partition("==") for line in lock)
    return {name if mark else "python": version or name for name, mark, version in pairs}


def _text(kind: str, observation: Any) -> str:
    """An observation as short text."""
    if kind == observations.CODE:
        return str(observation["bytes"] or observation["code"])
    if kind == observations.SEARCH:
        return ", ".join(observation["found"]) or "(none)"
    return observation or "(none)"


def differences(before: Parts, now: Parts) -> list[str]:
    """The parts that differ, one line each with the old and the new value.

    Values are compared as JSON, as in the digest: 1 differs from 1.0, and null from a missing key.
    """
    lines = []
    for kind in now:
        old, new = before.get(kind, {}), now[kind]
        for name in sorted(old.keys() | new.keys()):
            texts = [
                json.dumps(side[name], sort_keys=True) if name in side else ""
                for side in (old, new)
            ]
            if texts[0] != texts[1]:
                values = (_shown(kind, side.get(name, "(none)")) for side in (old, new))
                lines.append(f"{kind} {name}: {' -> '.join(values)}")
    return lines


def _shown(kind: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if kind == "variable":
        return "(not set)" if text in ("", "(none)") else f"value {text[:6]}"
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return text[:12]
    return text if len(text) <= 80 else f"{text[:77]}..."
