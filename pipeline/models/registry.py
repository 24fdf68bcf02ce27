"""Reads MLflow's model registry: versions, aliases, promotions and model files.

:mod:`pipeline.tracking.mlflow.registration` adds a version when a model has been trained, and
:mod:`pipeline.models.promotion` moves the aliases.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from pipeline.core import azure, model_folder, settings
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.results import RUN_ID_TAG
from pipeline.core.settings import ROOT
from pipeline.models.scoring import LoadedModel
from pipeline.provenance import origin
from pipeline.science import model_files
from pipeline.tracking.mlflow import store as mlflow_store
from pipeline.tracking.mlflow.registration import CANDIDATE

PRODUCTION, PREVIOUS = "production", "previous"
PROMOTION = "promotion."  # prefix of the tags that hold a registered model's history
LOCK = ".promoting"  # suffix of the registered model that is the lock of a promotion


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        name: the registered model's.
        number: 1, 2, ...
        aliases: its current aliases.
        tags: its lineage and metrics.
        created: when it was registered.
        mlflow_run: the MLflow run of the training step that made it.
        source: where MLflow stores its files.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created: datetime
    mlflow_run: str
    source: str

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics that were measured in training."""
        return {key: float(value) for key, value in self._below("metric.").items()}

    @property
    def data(self) -> dict[str, tuple[str, str]]:
        """The data it was fitted and measured on: by role, ``name:version`` and digest."""
        parts = {role: text.partition(" ") for role, text in self._below("data.").items()}
        return {role: (reference, digest) for role, (reference, _, digest) in parts.items()}

    @property
    def test_digest(self) -> str:
        """Digest of the test data; empty if unknown."""
        return self.data.get("test", ("", ""))[1]

    @property
    def run(self) -> str:
        """The pipeline run that made it; empty if the step ran alone."""
        return self.tags.get(RUN_ID_TAG, "")

    @property
    def commit(self) -> str:
        """The git commit of the code that made it; empty outside of a repository."""
        return self.tags.get("git.commit", "")

    @property
    def artifact(self) -> str:
        """The same model in the tracker, as ``name:version``."""
        return self.tags.get("tracker.artifact", "").partition(" ")[0]

    def _below(self, beginning: str) -> dict[str, str]:
        tags = self.tags.items()
        return {key.removeprefix(beginning): v for key, v in tags if key.startswith(beginning)}


@dataclass(frozen=True)
class Promotion:
    """An entry of a registered model's history.

    Attributes:
        number: 1, 2, ...
        action: ``promote`` or ``rollback``.
        old: the version that was in production before; None for the first promotion.
        new: the version that is in production after it.
        who: the user.
        when: the time in UTC.
        why: the reason.
        forced: whether the version had failed the gate.
    """

    number: int
    action: str
    old: int | None
    new: int
    who: str
    when: datetime
    why: str
    forced: bool = False

    def text(self) -> str:
        """The promotion as JSON, the value of its tag."""
        return json.dumps({**vars(self), "when": self.when.isoformat(timespec="seconds")})


def names() -> list[str]:
    """The names of the registered models."""
    models = mlflow_store.existing().search_registered_models(max_results=1000)
    return sorted(model.name for model in models if not model.name.endswith(LOCK))


def versions(name: str) -> list[Version]:
    """All versions of a registered model, the newest first.

    Raises:
        PipelineError: there is no such model.
    """
    client, aliases = mlflow_store.existing(), registered(name).aliases
    result, token = [], None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
        result += [_version(version, aliases) for version in page]
        if not (token := page.token):
            return sorted(result, key=lambda version: version.number, reverse=True)


def find(name: str, alias_or_number: str) -> Version:
    """A version by its alias (``production``), or its number (``3``).

    Raises:
        PipelineError: there is no such model, or no such version of it.
    """
    aliases = registered(name).aliases
    number = str(aliases.get(alias_or_number, alias_or_number)).removeprefix("v")
    if not re.fullmatch(r"\d{1,9}", number):
        remedies = {
            PRODUCTION: "python -m pipeline promote puts the candidate into production",
            CANDIDATE: "python main.py or a finished sweep makes one; for a trial give its "
            "version's number",
        }
        available = f"its aliases are: {', '.join(sorted(aliases)) or '(none)'}"
        similar = did_you_mean(alias_or_number, aliases)
        raise PipelineError(
            f"{name} has no version {alias_or_number!r}{similar}; {available}",
            remedies.get(alias_or_number, "give an alias, or a version's number"),
        )
    try:
        stored = mlflow_store.existing().get_model_version(name, number)
    except MlflowException as error:
        _raise_unless_missing(error)
        numbers = ", ".join(str(version.number) for version in versions(name)[:20])
        raise PipelineError(
            f"{name} has no version {number}", f"its versions are: {numbers or '(none)'}"
        ) from error
    return _version(stored, aliases)


def production(name: str) -> Version | None:
    """The version in production, or None while there is none."""
    aliases = registered(name).aliases
    return find(name, PRODUCTION) if PRODUCTION in aliases else None


def history(name: str) -> list[Promotion]:
    """Every promotion and rollback of a registered model, the oldest first."""
    promotions = []
    for key, text in registered(name).tags.items():
        if key.startswith(PROMOTION):
            values = json.loads(text)
            values["when"] = datetime.fromisoformat(values["when"])
            promotions.append(Promotion(**values))
    return sorted(promotions, key=lambda promotion: promotion.number)


def fetch(version: Version) -> Path:
    """Download a version's files, or use the cached copy, and verify their digest.

    Returns:
        The folder of the files.

    Raises:
        PipelineError: files are missing, or differ from those that were registered.
    """
    settings.check_name("a model", version.name)  # it becomes part of a path
    expected = version.tags.get("model.digest")
    if not expected:
        raise PipelineError(
            f"{version.name} version {version.number} was not registered by this pipeline",
            "train a model with this pipeline, and promote that version",
        )
    folder = settings.state_dir() / "models" / version.name / f"{version.number}-{expected[:16]}"
    if folder.is_dir() and not folder.is_symlink() and _digest(folder) is None:
        shutil.rmtree(folder)  # an incomplete copy
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="partial-") as temporary:
            _download(version, Path(temporary, "model"))
            if not folder.is_dir():  # another process may have been faster
                Path(temporary, "model").rename(folder)
    digest = _digest(folder)
    if digest != expected:
        if not folder.is_symlink():
            shutil.rmtree(folder)
        raise PipelineError(
            f"{version.name} version {version.number} "
            + ("is missing files" if digest is None else "has other files than were registered"),
            f"nothing was loaded; check who can write to {version.source}, restore the files, or "
            "train the model again",
        )
    return folder


def cleaning_warnings(version: Version, folder: Path) -> list[str]:
    """Warn if the cleaning code changed since a version was trained.

    A version whose files include its cleaning code uses that code, and needs no warning.

    Args:
        version: the version.
        folder: its files.
    """
    if all((folder / name).is_file() for name in model_folder.CODE_FILES[:2]):
        return []
    code = [str(path.relative_to(ROOT)) for path in model_files.cleaning_code()]
    if version.commit and origin.changed_since(version.commit, ROOT, *code):
        return [
            f"the cleaning code has changed since version {version.number} was trained: "
            f"git diff {version.commit[:12]} -- {' '.join(code)}"
        ]
    return []


def load(version: Version) -> LoadedModel:
    """Load a version's model with skops, without pickle.

    Raises:
        PipelineError: as :func:`fetch`.
    """
    return LoadedModel.from_folder(fetch(version))


def registered(name: str) -> RegisteredModel:
    """MLflow's record of a registered model, with its aliases and tags.

    Raises:
        PipelineError: no model has that name.
    """
    try:
        return mlflow_store.existing().get_registered_model(name)
    except MlflowException as error:
        _raise_unless_missing(error)
        existing = names()
        raise PipelineError(
            f"no model is registered as {name!r}{did_you_mean(name, existing)}",
            f"registered models: {', '.join(existing)}"
            if existing
            else "make run registers the first model",
        ) from error


def _raise_unless_missing(error: MlflowException) -> None:
    if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
        raise error


def _version(stored: ModelVersion, aliases: Mapping[str, str]) -> Version:
    return Version(
        stored.name,
        int(stored.version),
        tuple(sorted(alias for alias, number in aliases.items() if number == stored.version)),
        dict(stored.tags),
        datetime.fromtimestamp(stored.creation_timestamp / 1000, UTC),
        stored.run_id or "",
        stored.source or "",
    )


def _download(version: Version, folder: Path) -> None:
    folder.mkdir()
    model_uri = f"models:/{version.name}/{version.number}"
    uri = mlflow_store.existing().get_model_version_download_uri(version.name, str(version.number))
    try:
        with azure.readable_errors(uri):
            path = download_artifacts(model_uri, dst_path=str(folder / "all"))
    except (MlflowException, OSError) as error:
        raise PipelineError(
            f"the files of {version.name} version {version.number} can't be downloaded: {error}",
            "check that MLflow's artifact store is reachable, or use another version",
        ) from error
    for name in (*model_folder.FILES, *model_folder.CODE_FILES):
        if (downloaded := Path(path, name)).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(downloaded, folder / name)
    shutil.rmtree(folder / "all")


def _digest(folder: Path) -> str | None:
    try:
        return model_folder.digest(folder)
    except OSError:
        return None
