"""The evidence for a step's reuse: what the step depended on while it ran.

:mod:`pipeline.steps.tracing.trace` records the evidence inside the step, and
:mod:`pipeline.cache.compare` compares it with the current state.
"""

import fnmatch
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core import settings
from pipeline.core.files import write_whole
from pipeline.core.tracing.observations import Proof

# Environment variables that change what libraries compute, whoever reads them: docs/cache.md
LIBRARIES = (
    "BLIS_*", "CUBLAS_*", "CUDA_*", "KMP_*", "LANG", "LANGUAGE", "LC_*", "MKL_*", "NPY_*",
    "NUMBA_*", "NUMEXPR_*", "NUMPY_*", "NVIDIA_*", "OMP_*", "OPENBLAS_*", "PANDAS_*",
    "PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUTF8",
    "PYTHONWARNINGS", "SCIPY_*", "SKLEARN_*", "SOURCE_DATE_EPOCH", "TF_DETERMINISTIC_OPS",
    "TF_ENABLE_ONEDNN_OPTS", "TORCH_*", "TZ",
    "VECLIB_*", "XLA_*",
)  # fmt: skip
# Variables that identify a run or a place. They never count; the tracker and its project count by
# their address.
OURS = (
    "PIPELINE_*", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "NETRC", "TMPDIR",
    "TRACKIO_*", "WANDB_*",
)  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What a step depended on while it ran.

    Attributes:
        proof: what the step read below the repository, as
            :mod:`pipeline.core.tracing.observations` has it.
        environment: the digest of the lock of its packages; empty on another machine.
        variables: keyed digests of the environment variables that count.
        key: the key of these digests.
    """

    proof: Proof
    environment: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


def keyed_digests(variables: Mapping[str, str], names: Iterable[str], key: str) -> dict[str, str]:
    """Keyed digests of the values of ``names`` and of all variables that libraries read."""
    names = {*names, *library_variables(variables)}
    return {
        name: _keyed_digest(name, variables[name], key) if name in variables else ""
        for name in sorted(names)
        if not _matches(name, OURS)
    }


def _keyed_digest(name: str, value: str, key: str) -> str:
    text = f"{name}={value}".encode("utf-8", "surrogateescape")
    return hmac.new(key.encode(), text, "sha256").hexdigest()


def library_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that change what libraries compute."""
    return {name: value for name, value in variables.items() if _matches(name, LIBRARIES)}


def user_variables(
    variables: Mapping[str, str], library_values: Mapping[str, str]
) -> dict[str, str]:
    """Environment variables, with the libraries' variables as the user has set them.

    A sweep's launcher sets some of these for its workers, and they must not count.
    """
    other_variables = {
        name: value for name, value in variables.items() if not _matches(name, LIBRARIES)
    }
    return {**other_variables, **library_values}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def lock_digest(lines: Iterable[str]) -> str:
    """The digest that names an environment's lock file."""
    return hashlib.sha256(_lock_text(lines).encode()).hexdigest()


def keep_lock(lines: Sequence[str]) -> str:
    """Store an environment's lock, once for all steps that ran with it, and return its digest."""
    digest = lock_digest(lines)
    path = settings.lock_file(digest)
    if read_lock(digest) != list(lines):  # missing or damaged
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _lock_text(lines))
    return digest


def read_lock(digest: str, state: Path | None = None) -> list[str]:
    """The packages of a stored lock; empty if the file is missing or damaged."""
    try:
        lines = settings.lock_file(digest, state).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return lines if lock_digest(lines) == digest else []


def _lock_text(lines: Iterable[str]) -> str:
    return "\n".join([*lines, ""])
