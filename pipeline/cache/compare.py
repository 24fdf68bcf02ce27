"""What a step's result depends on, and whether all of it is unchanged.

:func:`key_parts` are known before the step runs; their digest is the cache key. The step itself
records the rest as :class:`~pipeline.core.dependencies.Evidence`: files read, packages and
environment variables. A result is reused only if the current state matches the evidence.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import yaml

from pipeline.core import observations
from pipeline.core.dependencies import Evidence, keyed_digests, lock_digest, read_lock
from pipeline.core.files import file_digest
from pipeline.core.results import Reference
from pipeline.core.settings import ROOT
from pipeline.steps.folders import library, step_files

Parts = dict[str, dict[str, Any]]


def key_parts(
    step: str, parameters: Mapping[str, Any], store: str, elsewhere: Mapping[str, Any]
) -> Parts:
    """What is known before a step runs, by kind and name.

    Names, places and groups are left out: an input counts by its content, not by its version.

    Args:
        step: the step's folder.
        parameters: its parameters; a :class:`Reference` counts by its digest.
        store: the tracker and project that its outputs are in.
        elsewhere: what decides about the environment on another machine; empty here.
    """
    inputs = {k: v.digest for k, v in parameters.items() if isinstance(v, Reference)}
    return {
        "declared": declared(step, bool(elsewhere)),
        "parameter": {k: v for k, v in parameters.items() if k not in inputs},
        "input": inputs,
        "tracker": {"store": store},
        "backend": dict(elsewhere),
    }


def declared(step: str, remote: bool = False) -> dict[str, str]:
    """The MLproject, and the files that it names as ``inputs``, by path, with their digests."""
    folder = ROOT / step
    project = folder / "MLproject"
    text = project.read_text(encoding="utf-8")
    declares = "inputs" in text  # most don't, and to parse takes longest of all
    patterns = (declares and (yaml.safe_load(text) or {}).get("inputs")) or ()
    files = [project, *([folder / "conda.yml"] if remote else [])]
    for pattern in patterns:
        files += sorted(path for path in folder.glob(pattern) if path.is_file())
    return {observations.name_of(str(path)): file_digest(path) for path in files}


def digest(found: Mapping[str, Any]) -> str:
    """One digest of all that was found."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


class CurrentState:
    """What a step would meet now.

    Args:
        key: the digest of what is known before it runs.
        variables: the environment variables.
        lock: gives the lock of the packages that it would run with; asked for once, if at all.
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
        """Keyed digests of variables: those named, and those that libraries go by."""
        return keyed_digests(self._variables, names, key)

    def matches(self, evidence: Evidence) -> bool:
        """Whether the step would meet just what it met then."""
        return (
            self.values(evidence.variables, evidence.key) == evidence.variables
            and evidence.environment in ("", self.environment)
            and not observations.changed(evidence.proof)
        )

    def changed_parts(self, evidence: Evidence) -> tuple[Parts, Parts]:
        """What differs, then and now, by kind and name."""
        values = self.values(evidence.variables, evidence.key)
        changed = observations.changed(evidence.proof)
        before: Parts = {"variable": dict(evidence.variables)}
        now: Parts = {"variable": dict(values)}
        for kind, name in changed:
            then = evidence.proof[kind][name]
            again = observations.observe(kind, name, then)
            before.setdefault(kind, {})[name] = _text(kind, then)
            now.setdefault(kind, {})[name] = _text(kind, again)
        if evidence.environment not in ("", self.environment):
            before["environment"] = _versions(read_lock(evidence.environment))
            now["environment"] = _versions(self.packages) or {"packages": "not installed yet"}
        return before, now


def unrecorded(step: str, present: CurrentState) -> Evidence:
    """The evidence of a step that nobody watched, on another machine.

    Its own files count, and the parts of the library that they import.
    """
    folder = ROOT / step
    files = [*step_files(folder), *library(folder / "script.py")]
    found = {observations.name_of(str(path)): file_digest(path) for path in files}
    return Evidence({observations.FILE: found}, "", present.values((), present.key), present.key)


def _versions(lock: Iterable[str]) -> dict[str, str]:
    """The versions in a lock, by name."""
    pairs = (line.partition("==") for line in lock)
    return {name if mark else "python": version or name for name, mark, version in pairs}


def _text(kind: str, observed: Any) -> str:
    """An observation in a few words."""
    if kind == observations.CODE:
        return str(observed["bytes"] or observed["code"])
    if kind == observations.SEARCH:
        return ", ".join(observed["found"]) or "(none)"
    return observed or "(none)"


def differences(before: Parts, now: Parts) -> list[str]:
    """Each part that differs, with its old and its new value.

    They are compared as the digest takes them: 1 and 1.0 differ, and null and nothing.
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
