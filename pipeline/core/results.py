"""What a step produced: :class:`StepResult`, the record that is cached, summarised and compared."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pipeline.core import settings
from pipeline.core.errors import PipelineError
from pipeline.core.files import file_digest
from pipeline.core.metrics import measured_as

# Artifacts of a step's MLflow run
LOCK, TABLES, FIGURES = "environment.lock.txt", "tables", "figures"
ERROR_TAG, RUN_ID_TAG = "pipeline.error", "pipeline.run_id"
TRACKER_TAG = "pipeline.tracker"  # of the run of a whole pipeline; its steps' runs have none
SUMMARY = "summary.json"
RECORD = "record.json"  # in the artifact by which others find a finished step


def records_of(step: str) -> str:
    """The artifact that holds a step's records for others, the key of each as its alias."""
    return f"{step}-records"


class Reference(str):
    """``name:version`` of an artifact that an earlier step produced, with its digest."""

    digest: str

    def __new__(cls, text: str, digest: str) -> "Reference":
        """A reference to ``text``, whose content has this digest."""
        reference = super().__new__(cls, text)
        reference.digest = digest
        return reference

    @property
    def has_version(self) -> bool:
        """Whether it names a version; a step that is not run names none."""
        return not self.endswith(":?")


@dataclass
class StepResult:
    """What a step came to; ``result["clean_data.csv"]`` is the exact version it produced."""

    step: str
    status: str  # ran, cached, failed, killed, skipped, or in an explanation "would run"
    seconds: float | None = None
    fingerprint: str | None = None
    pipeline_run: str | None = None
    mlflow_run: str | None = None
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)  # decisions about the data, text each
    environment: str | None = None  # digest of the lock of the packages it ran with
    tables: list[str] = field(default_factory=list)
    mlflow_files: dict[str, str] = field(default_factory=dict)  # in the state folder; digests
    tracker_run: str | None = None
    tracker_url: str | None = None

    def __getitem__(self, artifact: str) -> Reference:
        """The exact version of an output."""
        for output in self.outputs:
            if output["name"] == artifact:
                return Reference(f"{artifact}:{output['version']}", output["digest"])
        if self.status in ("skipped", "would run"):
            return Reference(f"{artifact}:?", f"from {self.step} ({self.status})")
        raise PipelineError(
            f"{self.step} logged no artifact {artifact!r}",
            f"it logged: {', '.join(output['name'] for output in self.outputs)}",
        )

    def metric(self, name: str | None) -> float | None:
        """A metric by name, as it was measured on training rows.

        It is that of the test data if no training rows were held out. None means the usual one, and
        None comes back where there is none.

        Raises:
            PipelineError: it was not measured, can't be on these rows, or is not a number.
        """
        if name is None:
            name = next((usual for usual in ("f1", "r2") if usual in self.metrics), None)
        if name is None or self.status in ("skipped", "would run"):
            return None
        found = measured_as(name, self.metrics)
        if found is None and name in self.metrics:
            raise PipelineError(
                f"{name} is undefined on the training rows that trials are measured on: a class is "
                "missing there",
                "hold out more (model.validation=0.3), measure by folds (model.cv=3), or choose "
                "another search.metric",
            )
        if found is None:
            raise PipelineError(
                f"search.metric={name!r} was not measured",
                f"use one of: {', '.join(self.metrics)}",
            )
        if math.isnan(self.metrics[found]):
            raise PipelineError(
                f"{found} is not a number (NaN) for this model and these rows",
                "choose another search.metric, or give it more rows to be measured on",
            )
        return self.metrics[found]


def damage(result: StepResult) -> list[str]:
    """What is wrong with what a step has left on this machine: each file that is gone or changed.

    An output without ``stored`` files is on a server, which has to be asked instead.
    """
    problems = []
    for output in result.outputs:
        name = f"{output['name']}:{output['version']}"
        problems += damaged_files(name, settings.trackio_dir(), output.get("stored", {}))
    name = f"MLflow run {result.mlflow_run}"
    return problems + damaged_files(name, settings.state_dir(), result.mlflow_files)


def damaged_files(name: str, folder: Path, files: Mapping[str, str]) -> list[str]:
    """Each file that is gone or changed, of some by their places in a folder, with digests."""
    problems = []
    for place, digest in files.items():
        path = folder / place
        try:
            if file_digest(path) != digest:
                problems.append(f"{name} has been changed on disk: {path}")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            problems.append(f"{name} is missing its file {path}")
        except OSError as error:  # a loop of links, or a file of somebody else
            problems.append(f"{name} has a file that can't be read: {path} ({error.strerror})")
    return problems


@cache
def _types(kind: type) -> dict[str, tuple[type, ...]]:
    """What the values of a dataclass's fields may be, those in them aside."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        plain = tuple(get_origin(one) or one for one in kinds)
        found[name] = (*plain, int) if float in plain else plain
    return found


def check_types(record: Any) -> None:
    """Refuse a dataclass that was made of JSON with other types than its fields have.

    Raises:
        TypeError: a field is something else.
    """
    for name, kinds in _types(record.__class__).items():
        if not isinstance(getattr(record, name), kinds):
            raise TypeError(f"{name} is a {type(getattr(record, name)).__name__}")


def parse_result(told: Mapping[str, Any]) -> StepResult:
    """A result from JSON.

    Raises:
        TypeError, LookupError: it is none.
    """
    result = StepResult(**told)
    check_types(result)
    for name in ("inputs", "outputs"):
        for artifact in getattr(result, name):
            _ = artifact["name"] + artifact["version"] + artifact["digest"]
            _ = [*artifact.get("stored", {}).items()]
    _ = [source["url"] + "" for source in result.sources]
    _ = [math.isnan(value) for value in result.metrics.values()]
    _ = [note["text"] + "" for note in result.notes]
    _ = [place + digest for place, digest in result.mlflow_files.items()]
    return result
