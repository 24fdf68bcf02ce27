"""The result of a step: the record that is cached, summarised and compared."""

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
TRACKER_TAG = "pipeline.tracker"  # on the pipeline's run only, not on its steps' runs
SUMMARY = "summary.json"
MEASUREMENTS = "measurements.json"  # of a report, for comparisons of runs
RECORD = "record.json"  # the file in a step's record artifact


def records_of(step: str) -> str:
    """The artifact with a step's records for other users; aliases are the cache keys."""
    return f"{step}-records"


class Reference(str):
    """``name:version`` of an artifact that an earlier step produced, with its digest."""

    digest: str

    def __new__(cls, text: str, digest: str) -> "Reference":
        """Make a reference to ``text``, with the digest of its content."""
        reference = super().__new__(cls, text)
        reference.digest = digest
        return reference

    @property
    def has_version(self) -> bool:
        """Whether the reference names a version; an output of a step that did not run has none."""
        return not self.endswith(":?")


@dataclass
class StepResult:
    """The result of a step; ``result["clean_data.csv"]`` is the exact version it produced."""

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
    notes: list[dict[str, Any]] = field(default_factory=list)  # decisions about the data
    environment: str | None = None  # digest of the lock of its packages
    tables: list[str] = field(default_factory=list)
    mlflow_files: dict[str, str] = field(default_factory=dict)  # digests, by path in state_dir
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
        """The metric's validation or cross-validation value, else its test value.

        Args:
            name: the metric; None: ``f1`` or ``r2``.

        Returns:
            The value; None if the step did not run, or without a default metric.

        Raises:
            PipelineError: the metric was not measured, is undefined on these rows, or is NaN.
        """
        if name is None:
            name = next((usual for usual in ("f1", "r2") if usual in self.metrics), None)
        if name is None or self.status in ("skipped", "would run"):
            return None
        key = measured_as(name, self.metrics)
        if key is None and name in self.metrics:
            raise PipelineError(
                f"{name} is undefined on the training rows that trials are measured on: a class is "
                "missing there",
                "hold out more (model.validation=0.3), measure by folds (model.cv=3), or choose "
                "another search.metric",
            )
        if key is None:
            raise PipelineError(
                f"search.metric={name!r} was not measured",
                f"use one of: {', '.join(self.metrics)}",
            )
        if math.isnan(self.metrics[key]):
            raise PipelineError(
                f"{key} is not a number (NaN) for this model and these rows",
                "choose another search.metric, or give it more rows to be measured on",
            )
        return self.metrics[key]


def damage(result: StepResult) -> list[str]:
    """The files of a step's outputs that are missing or changed on this machine.

    An output without ``stored`` files is on a server and is not checked here.
    """
    problems = []
    for output in result.outputs:
        name = f"{output['name']}:{output['version']}"
        problems += damaged_files(name, settings.trackio_dir(), output.get("stored", {}))
    name = f"MLflow run {result.mlflow_run}"
    return problems + damaged_files(name, settings.state_dir(), result.mlflow_files)


def damaged_files(name: str, folder: Path, files: Mapping[str, str]) -> list[str]:
    """The problems of files, given their digests by path below a folder."""
    problems = []
    for place, digest in files.items():
        path = folder / place
        try:
            if file_digest(path) != digest:
                problems.append(f"{name} has been changed on disk: {path}")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            problems.append(f"{name} is missing its file {path}")
        except OSError as error:  # a loop of links, or no permission
            problems.append(f"{name} has a file that can't be read: {path} ({error.strerror})")
    return problems


@cache
def _types(kind: type) -> dict[str, tuple[type, ...]]:
    """The types of a dataclass's fields, without the types of their items."""
    types = {}
    for name, hint in get_type_hints(kind).items():
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        plain = tuple(get_origin(option) or option for option in kinds)
        types[name] = (*plain, int) if float in plain else plain
    return types


def check_types(record: Any) -> None:
    """Refuse a dataclass made from JSON whose values have other types than its fields.

    Raises:
        TypeError: a field has another type.
    """
    for name, kinds in _types(record.__class__).items():
        if not isinstance(getattr(record, name), kinds):
            raise TypeError(f"{name} is a {type(getattr(record, name)).__name__}")


def parse_result(record: Mapping[str, Any]) -> StepResult:
    """A result from its JSON record.

    Raises:
        TypeError, LookupError: the record is damaged.
    """
    result = StepResult(**record)
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
