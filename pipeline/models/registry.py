"""MLflow's model registry: which versions there are, which is in production, and since when.

This is the one place that reads it. :mod:`pipeline.tracking.mlflow.registration` adds a version
when a model has been trained, :mod:`pipeline.models.promotion` moves the aliases.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from pipeline.core import azure, model_folder, settings
from pipeline.core.errors import PipelineError, did_you_mean
from pipeline.core.results import RUN_ID_TAG
from pipeline.core.settings import ROOT
from pipeline.models.scoring import Loaded
from pipeline.provenance import origin
from pipeline.science import model_files
from pipeline.tracking.mlflow import store as mlflow_store
from pipeline.tracking.mlflow.registration import CANDIDATE

PRODUCTION, PREVIOUS = "production", "previous"
PROMOTION = "promotion."  # tags of a registered model that begin so are its history
LOCK = ".promoting"  # a registered model that ends so is a promotion under way


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        name: the registered model's.
        number: 1, 2, ...
        aliases: those that mean it now.
        tags: where it came from.
        created: when it was registered.
        mlflow_run: the MLflow run of the training step that made it.
        source: where MLflow keeps its files.
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
        """What it scored when it was trained."""
        return {key: float(value) for key, value in self._below("metric.").items()}

    @property
    def data(self) -> dict[str, tuple[str, str]]:
        """The data it was fitted and measured on: by role, ``name:version`` and digest."""
        parts = {role: text.partition(" ") for role, text in self._below("data.").items()}
        return {role: (reference, digest) for role, (reference, _, digest) in parts.items()}

    @property
    def test_digest(self) -> str:
        """Digest of the data that it was measured on; empty where that is not known."""
        return self.data.get("test", ("", ""))[1]

    @property
    def run(self) -> str:
        """The pipeline run that made it; empty where the step ran alone."""
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
    """One line of a registered model's history.

    Attributes:
        number: 1 for the first one.
        action: ``promote`` or ``rollback``.
        old: the version that was in production before; None for the first one.
        new: the version that has been since.
        who: who did it.
        when: when, in UTC.
        why: the gate's reason, or that of the person.
        forced: whether the gate had said no.
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
        """As the tag that it is kept in."""
        return json.dumps({**vars(self), "when": self.when.isoformat(timespec="seconds")})


def names() -> list[str]:
    """The registered models."""
    found = mlflow_store.existing().search_registered_models(max_results=1000)
    return sorted(model.name for model in found if not model.name.endswith(LOCK))


def versions(name: str) -> list[Version]:
    """All versions of a registered model, the newest first.

    Raises:
        PipelineError: there is no such model.
    """
    client, aliases = mlflow_store.existing(), registered(name).aliases
    found, token = [], None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
        found += [_version(one, aliases) for one in page]
        if not (token := page.token):
            return sorted(found, key=lambda version: version.number, reverse=True)


def find(name: str, wanted: str) -> Version:
    """A version by its alias (``production``), or its number (``3``).

    Raises:
        PipelineError: there is no such model, or no such version of it.
    """
    aliases = registered(name).aliases
    number = str(aliases.get(wanted, wanted)).removeprefix("v")
    if not re.fullmatch(r"\d{1,9}", number):
        remedies = {
            PRODUCTION: "python -m pipeline promote puts the candidate into production",
            CANDIDATE: "python main.py makes one, and a sweep at its end; a trial is none: give "
            "its version's number",
        }
        known = f"its aliases are: {', '.join(sorted(aliases)) or '(none)'}"
        raise PipelineError(
            f"{name} has no version {wanted!r}{did_you_mean(wanted, aliases)}; {known}",
            remedies.get(wanted, "give an alias, or a version's number"),
        )
    try:
        found = mlflow_store.existing().get_model_version(name, number)
    except MlflowException as error:
        _raise_unless_missing(error)
        numbers = ", ".join(str(version.number) for version in versions(name)[:20])
        raise PipelineError(
            f"{name} has no version {number}", f"its versions are: {numbers or '(none)'}"
        ) from error
    return _version(found, aliases)


def production(name: str) -> Version | None:
    """The version in production, or None while there is none."""
    aliases = registered(name).aliases
    return find(name, PRODUCTION) if PRODUCTION in aliases else None


def history(name: str) -> list[Promotion]:
    """Every promotion and rollback of a registered model, the oldest first."""
    told = []
    for key, text in registered(name).tags.items():
        if key.startswith(PROMOTION):
            values = json.loads(text)
            told.append(Promotion(**{**values, "when": datetime.fromisoformat(values["when"])}))
    return sorted(told, key=lambda promotion: promotion.number)


def fetch(version: Version) -> Path:
    """A folder with a version's files, compared with the digest that was registered.

    Raises:
        PipelineError: they are gone, or others than were registered.
    """
    settings.check_name("a model", version.name)  # it becomes part of a path
    wanted = version.tags.get("model.digest")
    if not wanted:
        raise PipelineError(
            f"{version.name} version {version.number} was not registered by this pipeline",
            "train a model with it, and promote that one",
        )
    place = settings.state_dir() / "models" / version.name / f"{version.number}-{wanted[:16]}"
    if place.is_dir() and not place.is_symlink() and _digest(place) is None:
        shutil.rmtree(place)  # a copy that has lost files
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix="partial-") as folder:
            _download(version, Path(folder, "model"))
            if not place.is_dir():  # another process may have been faster
                Path(folder, "model").rename(place)
    found = _digest(place)
    if found != wanted:
        if not place.is_symlink():
            shutil.rmtree(place)
        raise PipelineError(
            f"{version.name} version {version.number} "
            + ("is missing files" if found is None else "has other files than were registered"),
            f"nothing of it was loaded; look who writes to {version.source}, put its files "
            "back, or train it again",
        )
    return place


def drift(version: Version, folder: Path) -> list[str]:
    """Warn if rows may be cleaned in another way than the training data of a version was.

    Args:
        version: the version.
        folder: its files; one that keeps its cleaning code cleans as it did then.
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


def load(version: Version) -> Loaded:
    """A version's model, read with skops; no pickle, and no code of the model's own.

    Raises:
        PipelineError: as :func:`fetch`.
    """
    return Loaded.from_folder(fetch(version))


def registered(name: str) -> RegisteredModel:
    """A registered model as MLflow has it: its aliases and tags.

    Raises:
        PipelineError: there is none of that name.
    """
    try:
        return mlflow_store.existing().get_registered_model(name)
    except MlflowException as error:
        _raise_unless_missing(error)
        known = names()
        raise PipelineError(
            f"no model is registered as {name!r}{did_you_mean(name, known)}",
            f"registered are: {', '.join(known)}" if known else "make run registers the first one",
        ) from error


def _raise_unless_missing(error: MlflowException) -> None:
    if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
        raise error


def _version(found: ModelVersion, aliases: Mapping[str, str]) -> Version:
    return Version(
        found.name,
        int(found.version),
        tuple(sorted(alias for alias, number in aliases.items() if number == found.version)),
        dict(found.tags),
        datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        found.run_id or "",
        found.source,
    )


def _download(version: Version, into: Path) -> None:
    into.mkdir()
    address = f"models:/{version.name}/{version.number}"
    place = mlflow_store.existing().get_model_version_download_uri(version.name, version.number)
    try:
        with azure.readable_errors(place):
            stored = Path(mlflow.artifacts.download_artifacts(address, dst_path=str(into / "all")))
    except (MlflowException, OSError) as error:
        raise PipelineError(
            f"the files of {version.name} version {version.number} can't be fetched: {error}",
            "check that MLflow's artifact store is there, or use another version",
        ) from error
    for name in (*model_folder.FILES, *model_folder.CODE_FILES):
        if (stored / name).is_file():
            (into / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(stored / name, into / name)
    shutil.rmtree(into / "all")


def _digest(folder: Path) -> str | None:
    try:
        return model_folder.digest(folder)
    except OSError:
        return None
