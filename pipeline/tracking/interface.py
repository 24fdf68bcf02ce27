"""What each tracker implements: a run in it, and the artifacts that a run reads and logs."""

import json
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import PipelineError
from pipeline.core.files import SCHEMA_FILE

if TYPE_CHECKING:
    import pandas as pd


PIPELINE = "pipeline"  # the job type of the run of a whole pipeline, and how its name begins
STATUS_OF, RUN_OF = "steps/", "runs/"  # in its summary, before a step: how it ended, and its run


@dataclass(frozen=True)
class Artifact:
    """One exact version of an artifact.

    Attributes:
        name: its name within the project, such as ``clean_data.csv``.
        version: ``v0``, ``v1``, ...
        digest: SHA-256 of its content (:func:`pipeline.core.files.content_digest`).
        type: ``raw_data``, ``processed_data``, ``split_data`` or ``model``.
        metadata: what was recorded beside it.
        path: the local folder that holds its files, once it has been fetched.
        stored: where a local tracker keeps its files, below the tracker's folder, and the
            digest each should have; empty where a server keeps them.
    """

    name: str
    version: str
    digest: str
    type: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    stored: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """``name:version``, the form in which one step hands it to the next."""
        return f"{self.name}:{self.version}"

    def download(self, root: str | Path | None = None) -> Path:
        """The folder with the artifact's files.

        Args:
            root: a folder to copy them to; None: where they were fetched.

        Raises:
            PipelineError: the artifact was found or logged, not fetched.
        """
        if self.path is None:
            raise PipelineError(
                f"the files of artifact {self.reference} were not fetched",
                f"fetch them: run.use_artifact({self.reference!r})",
            )
        return Path(shutil.copytree(self.path, root, dirs_exist_ok=True)) if root else self.path

    def file(self, root: str | Path | None = None) -> Path:
        """The artifact's only file; of a table with its schema, the table.

        Args:
            root: a folder to copy it to; None: where it was fetched.

        Raises:
            PipelineError: the artifact holds more files, or none.
        """
        folder = self.download()
        files = [path for path in folder.rglob("*") if path.is_file()]
        if len(files) == 2:
            files = [path for path in files if path != folder / SCHEMA_FILE]
        if len(files) != 1:
            raise PipelineError(
                f"artifact {self.reference} holds {len(files)} files, and one was expected",
                "name an artifact that one of the steps has logged",
            )
        return self.download(root) / files[0].relative_to(folder)

    def schema(self) -> dict[str, Any] | None:
        """The types of the table's columns, as the step that wrote it recorded them.

        None where the artifact holds no ``schema.json``: somebody else made it.

        Raises:
            PipelineError: the artifact was found or logged, not fetched.
        """
        path = self.download() / SCHEMA_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def wait(self) -> "Artifact":
        """The artifact itself, for code written for W&B: ``log_artifact`` has waited already."""
        return self


@dataclass(frozen=True)
class Chart:
    """A table that the tracker draws itself, with those of other runs in the same axes.

    Attributes:
        table: lines with the columns ``class``, x and y, a line for each class; or a confusion
            matrix with the columns ``true``, ``predicted`` and ``rows``.
    """

    table: "pd.DataFrame"

    @property
    def is_confusion(self) -> bool:
        """Whether it is a confusion matrix."""
        return [*self.table.columns] == ["true", "predicted", "rows"]

    @classmethod
    def of(cls, table: "pd.DataFrame") -> "Chart | None":
        """The chart that a table is, if it is one."""
        chart = cls(table)
        lines = [*table.columns[:1]] == ["class"] and len(table.columns) == 3
        return chart if lines or chart.is_confusion else None


class TrackerRun(ABC):
    """A run in a tracker, from its start to :meth:`finish`. The verbs are W&B's.

    Attributes:
        kind: the tracker, ``trackio`` or ``wandb``.
        id: the run's id there.
        url: the run's page, if the tracker has a server.
    """

    kind: str
    id: str
    url: str | None

    @abstractmethod
    def use_artifact(self, reference: str, into: Path) -> Artifact:
        """Fetch ``name:version``, ``name:alias`` or ``name`` into a folder, as an input.

        Raises:
            PipelineError: it does not exist, or its bytes do not match their digest.
        """

    @abstractmethod
    def use_unread(self, reference: str) -> None:
        """Record ``name:version`` as an input without fetching it.

        Raises:
            PipelineError: it does not exist.
        """

    @abstractmethod
    def log_artifact(
        self,
        path: Path,
        name: str,
        type: str,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
        aliases: Sequence[str] = (),
    ) -> Artifact:
        """Record a file or a folder as an output; bytes already there make no new version.

        The version, new or not, gets the aliases.
        """

    @abstractmethod
    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Record values by name.

        A ``Path`` is logged as an image or an HTML page, a ``DataFrame`` as a table, a ``Series``
        as a bar chart of its labels, a :class:`Chart` as such, and anything else as the tracker's
        library takes it.
        """

    @abstractmethod
    def update(self, summary: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Record values of the run as a whole, over those logged so far, and its settings."""

    @abstractmethod
    def alert(self, title: str, text: str) -> None:
        """Alert whoever has asked the tracker for alerts."""

    @abstractmethod
    def finish(self, failed: bool = False, error: BaseException | None = None) -> None:
        """End the run and wait until all of it is stored.

        Args:
            failed: whether it failed or was killed.
            error: why; a KeyboardInterrupt means that it was killed.
        """

    @abstractmethod
    def image(self, path: Path) -> Any:
        """An image file as an object of the tracker's library."""

    @abstractmethod
    def table(self, frame: "pd.DataFrame") -> Any:
        """A table as an object of the tracker's library."""

    @abstractmethod
    def html(self, path: Path) -> Any:
        """An HTML file as an object of the tracker's library."""

    @abstractmethod
    def chart(self, name: str, chart: Chart) -> Any:
        """A chart as an object of the tracker's library; its table, if there is none."""

    @abstractmethod
    def bars(self, name: str, values: "pd.Series") -> Any:
        """A bar chart as an object of the tracker's library; a table, if there is none."""

    def loggable(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the tracker's library takes them."""

        def convert(name: str, value: Any) -> Any:
            if isinstance(value, Path):
                return self.html(value) if value.suffix == ".html" else self.image(value)
            if isinstance(value, Chart):
                return self.chart(name, value)
            if is_table(value):
                return self.table(value)
            return self.bars(name, value) if _is_of_pandas("Series", value) else value

        return {name: convert(name, value) for name, value in values.items()}


def is_table(value: Any) -> bool:
    """Whether a value is a table of pandas."""
    return _is_of_pandas("DataFrame", value)


def _is_of_pandas(kind: str, value: Any) -> bool:
    pandas = sys.modules.get("pandas")  # a step that has not imported it has no tables
    return pandas is not None and isinstance(value, getattr(pandas, kind))


def files_of(artifact: Any) -> dict[str, Path]:
    """The files that were added to a ``wandb.Artifact`` or a ``trackio.Artifact``, by their name.

    Raises:
        PipelineError: the artifact refers to files elsewhere, or it is no artifact.
    """
    if hasattr(artifact, "_pending_files"):
        # what was added to it is nowhere else before it is logged
        files = {name: path for path, name in artifact._pending_files}  # noqa: SLF001 - see above
        references = artifact._pending_references  # noqa: SLF001 - see above
        elsewhere = [address for _, address, *_ in references]
    elif hasattr(artifact, "manifest"):
        entries = artifact.manifest.entries
        files = {name: entry.local_path for name, entry in entries.items()}
        elsewhere = [entry.ref for entry in entries.values() if entry.ref]
    else:
        raise PipelineError(
            f"log_artifact was given {artifact!r}",
            "give it a path, a wandb.Artifact or a trackio.Artifact",
        )
    if elsewhere:
        raise PipelineError(
            f"artifact {artifact.name!r} refers to {elsewhere[0]}, whose bytes can change",
            "download the file and add it: artifact.add_file(...)",
        )
    return {name: Path(path) for name, path in files.items()}
