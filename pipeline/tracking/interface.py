"""The interface of a tracker: its runs, and the artifacts that they read and log."""

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


PIPELINE = "pipeline"  # job type of the run of a whole pipeline, and prefix of its name
STATUS_OF, RUN_OF = "steps/", "runs/"  # prefixes in its summary: a step's status, and its run


@dataclass(frozen=True)
class Artifact:
    """One exact version of an artifact.

    Attributes:
        name: its name within the project, such as ``clean_data.csv``.
        version: ``v0``, ``v1``, ...
        digest: SHA-256 of its content (:func:`pipeline.core.files.content_digest`).
        type: ``raw_data``, ``processed_data``, ``split_data`` or ``model``.
        metadata: as logged with the artifact.
        path: the local folder with its files; None until it is fetched.
        stored: the expected digest of each file by its path below a local tracker's folder;
            empty if a server stores the files.
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
        """``name:version``, the form in which steps receive their inputs."""
        return f"{self.name}:{self.version}"

    def download(self, root: str | Path | None = None) -> Path:
        """The folder with the artifact's files.

        Args:
            root: a folder to copy them to; None for the folder that they were fetched to.

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
        """The artifact's only file, apart from its ``schema.json``.

        Args:
            root: a folder to copy it to; None for the folder that it was fetched to.

        Raises:
            PipelineError: the artifact holds several files, or none.
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
        """The column types in the artifact's ``schema.json``.

        None if it holds no such file, because it was not logged by a step.

        Raises:
            PipelineError: the artifact was found or logged, not fetched.
        """
        path = self.download() / SCHEMA_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def wait(self) -> "Artifact":
        """Return the artifact, for code written for W&B: ``log_artifact`` has waited already."""
        return self


@dataclass(frozen=True)
class Chart:
    """A table that the tracker draws, so that it can overlay several runs.

    Attributes:
        table: curves with the columns ``class``, x and y, one curve per class; or a confusion
            matrix with the columns ``true``, ``predicted`` and ``rows``.
    """

    table: "pd.DataFrame"

    @property
    def is_confusion(self) -> bool:
        """Whether it is a confusion matrix."""
        return [*self.table.columns] == ["true", "predicted", "rows"]

    @classmethod
    def of(cls, table: "pd.DataFrame") -> "Chart | None":
        """A table as a chart, if it has a chart's columns."""
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
        """Record a file or a folder as an output; unchanged content makes no new version.

        The version, new or not, gets the aliases.
        """

    @abstractmethod
    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Record values by name.

        A ``Path`` is logged as an image or an HTML page, a ``DataFrame`` as a table, a ``Series``
        as a bar chart of its labels, a :class:`Chart` as a chart, and other values unchanged.
        """

    @abstractmethod
    def update(self, summary: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Update the run's summary and its config."""

    @abstractmethod
    def alert(self, title: str, text: str) -> None:
        """Send an alert to the users who subscribed to alerts."""

    @abstractmethod
    def finish(self, failed: bool = False, error: BaseException | None = None) -> None:
        """End the run and wait until all of it is stored.

        Args:
            failed: whether it failed or was killed.
            error: the cause; a KeyboardInterrupt means that the run was killed.
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
        """A chart as an object of the tracker's library; a table if that has no charts."""

    @abstractmethod
    def bars(self, name: str, values: "pd.Series") -> Any:
        """A bar chart as an object of the tracker's library; a table if that has no charts."""

    def loggable(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Convert values to objects of the tracker's library."""

        def convert(name: str, value: Any) -> Any:
            if isinstance(value, Path):
                return self.html(value) if value.suffix == ".html" else self.image(value)
            if isinstance(value, Chart):
                return self.chart(name, value)
            if is_table(value):
                return self.table(value)
            return self.bars(name, value) if _is_pandas("Series", value) else value

        return {name: convert(name, value) for name, value in values.items()}


def is_table(value: Any) -> bool:
    """Whether a value is a pandas DataFrame."""
    return _is_pandas("DataFrame", value)


def _is_pandas(kind: str, value: Any) -> bool:
    pandas = sys.modules.get("pandas")  # a step that has not imported it has no tables
    return pandas is not None and isinstance(value, getattr(pandas, kind))


def files_of(artifact: Any) -> dict[str, Path]:
    """The files added to a ``wandb.Artifact`` or a ``trackio.Artifact``, by name.

    Raises:
        PipelineError: the artifact holds references, or the value is no artifact.
    """
    if hasattr(artifact, "_pending_files"):
        # Trackio has no public access to these before the artifact is logged.
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
