"""What a step depends on, as it was recorded while the step ran: the evidence for its reuse.

:mod:`pipeline.steps.trace` records it inside the step; :mod:`pipeline.cache.compare` says whether
it still holds.
"""

import fnmatch
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core import settings
from pipeline.core.files import write_whole
from pipeline.core.observations import Proof

# Environment variables that libraries go by, whoever reads them; docs/cache.md lists them.
LIBRARIES = (
    "BLIS_*", "CUBLAS_*", "CUDA_*", "KMP_*", "LANG", "LANGUAGE", "LC_*", "MKL_*", "NPY_*",
    "NUMBA_*", "NUMEXPR_*", "NUMPY_*", "NVIDIA_*", "OMP_*", "OPENBLAS_*", "PANDAS_*",
    "PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUTF8",
    "PYTHONWARNINGS", "SCIPY_*", "SKLEARN_*", "SOURCE_DATE_EPOCH", "TF_DETERMINISTIC_OPS",
    "TF_ENABLE_ONEDNN_OPTS", "TORCH_*", "TZ",
    "VECLIB_*", "XLA_*",
)  # fmt: skip
# Those that tell one run from another, or where things are kept: they never count. Which tracker
# and project it is counts by their address.
OURS = (
    "PIPELINE_*", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "NETRC", "TMPDIR",
    "TRACKIO_*", "WANDB_*",
)  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What a step was found to depend on while it ran.

    Attributes:
        proof: what it read below the repository; see :mod:`pipeline.core.observations`.
        environment: the digest of the lock of its packages; empty on another machine.
        variables: the environment variables that count, with keyed digests of their values.
        key: keys these digests.
    """

    proof: Proof
    environment: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


def keyed_digests(variables: Mapping[str, str], names: Iterable[str], key: str) -> dict[str, str]:
    """Keyed digests of variables' values: of those named, and of those that libraries go by."""
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
    """Those environment variables that libraries go by."""
    return {name: value for name, value in variables.items() if _matches(name, LIBRARIES)}


def user_variables(variables: Mapping[str, str], by_libraries: Mapping[str, str]) -> dict[str, str]:
    """Environment variables, with those that libraries go by as the user has set them.

    A sweep's launcher sets some for its workers, which are nobody's choice.
    """
    others = {name: value for name, value in variables.items() if not _matches(name, LIBRARIES)}
    return {**others, **by_libraries}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def lock_digest(lines: Iterable[str]) -> str:
    """The digest by which the lock of an environment is kept."""
    return hashlib.sha256(_lock_text(lines).encode()).hexdigest()


def keep_lock(lines: Sequence[str]) -> str:
    """Keep an environment's lock, once however many steps ran with it; its digest."""
    digest = lock_digest(lines)
    path = settings.lock_file(digest)
    if read_lock(digest) != list(lines):  # it is missing or damaged
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _lock_text(lines))
    return digest


def read_lock(digest: str, state: Path | None = None) -> list[str]:
    """A lock that was kept; empty where it is gone or damaged."""
    try:
        lines = settings.lock_file(digest, state).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return lines if lock_digest(lines) == digest else []


def _lock_text(lines: Iterable[str]) -> str:
    return "\n".join([*lines, ""])
