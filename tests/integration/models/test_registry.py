"""From a trained model to production and back: the registry, the gate, and two at once."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from pipeline.core import model_folder
from pipeline.core.errors import PipelineError
from pipeline.models import gate, promotion, registry
from pipeline.tracking import Artifact
from pipeline.tracking.mlflow import registration as mlflow_registration
from tests.support.paths import ROOT
from tests.support.registered import CLEANING, RUN, Registered

NAME = "pokemon-legendary"
LOCAL = "--env-manager=local"


@pytest.fixture(scope="module")
def place(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """A registry with three versions: good, better, and a bad one that needs fewer columns."""
    return registered.copy(tmp_path_factory.mktemp("registry") / "home")


@pytest.fixture
def at(place: Registered, monkeypatch: pytest.MonkeyPatch) -> Registered:
    """The same place, for this process."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(place.state))
    return place


@pytest.fixture
def promoted(at: Registered) -> Iterator[Registered]:
    """Version 1 in production, and no history."""
    client = registry.mlflow_store.existing()
    client.set_registered_model_alias(NAME, "production", "1")
    yield at
    for alias in ("production", "previous"):
        client.delete_registered_model_alias(NAME, alias)
    for key in registry.registered(NAME).tags:
        client.delete_registered_model_tag(NAME, key)


def test_a_version_says_where_it_came_from(at: Registered):
    versions = registry.versions(NAME)
    assert [version.number for version in versions] == [3, 2, 1]
    assert [version.aliases for version in versions] == [("candidate",), (), ()]
    assert registry.names() == [NAME]
    assert registry.production(NAME) is None
    assert registry.history(NAME) == []
    first = registry.find(NAME, "1")
    assert first.run == RUN
    assert set(first.data) == {"train", "test"}
    reference, digest = first.data["test"]
    assert reference == "test_data.csv:v0"
    assert len(digest) == 64
    assert 0 < first.metrics["f1"] <= 1
    assert len(first.commit) == 40
    assert first.artifact == "model:v0"
    loaded = registry.load(first)
    assert loaded.model.named_steps["estimator"].n_estimators == 10
    assert loaded.preparation["target"] == "legendary"
    assert loaded.cleaning == CLEANING
    assert any(pin.startswith("scikit-learn==") for pin in loaded.requirements)
    for name in model_folder.CODE:  # the cleaning code goes with the model
        kept = loaded.folder / "extra_files" / name
        assert kept.read_bytes() == (ROOT / "pipeline/science/data" / name).read_bytes()
    assert registry.cleaning_warnings(first, loaded.folder) == []


def test_what_is_not_there_is_said(at: Registered):
    with pytest.raises(PipelineError, match="did you mean 'pokemon-legendary'"):
        registry.find("pokemon-legendry", "1")
    with pytest.raises(PipelineError, match="did you mean 'candidate'"):
        registry.find(NAME, "candidat")
    with pytest.raises(PipelineError, match=r"(?s)no version 9.*3, 2, 1"):
        registry.find(NAME, "9")
    with pytest.raises(PipelineError, match="promote puts the candidate"):
        registry.find(NAME, "production")


def test_files_that_were_changed_are_not_loaded(at: Registered):
    version = registry.find(NAME, "2")
    folder = registry.fetch(version)
    (folder / "requirements.txt").unlink()
    assert (registry.fetch(version) / "requirements.txt").is_file()  # it is a copy
    (folder / "requirements.txt").write_text("evil==1.0")
    with pytest.raises(PipelineError, match="other files than were registered"):
        registry.load(version)
    assert not folder.exists()
    stored = next(at.state.glob("mlflow/artifacts/**/model.skops"))
    kept = {path: path.read_bytes() for path in at.state.glob("mlflow/artifacts/**/model.skops")}
    try:
        for path in kept:
            path.write_bytes(b"other bytes")
        with pytest.raises(PipelineError, match="other files than were registered"):
            registry.load(version)
        shutil.move(stored.parent, f"{stored.parent}-away")
        for number in ("1", "2", "3"):
            shutil.rmtree(at.state / "models", ignore_errors=True)
            with pytest.raises(PipelineError):
                registry.load(registry.find(NAME, number))
        shutil.move(f"{stored.parent}-away", stored.parent)
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    assert registry.load(version).classes == [False, True]


def test_which_version_is_meant(at: Registered):
    choose = promotion.choose
    assert choose(NAME, None, None, False, None).number == 3
    assert choose(NAME, "2", None, False, None).number == 2
    run = registry.find(NAME, "3").mlflow_run
    assert choose(NAME, None, run, False, None).number == 3
    best = choose(NAME, None, None, True, None)
    assert best.metrics["f1"] == max(one.metrics["f1"] for one in registry.versions(NAME))
    with pytest.raises(PipelineError, match="'nope' has registered no version"):
        choose(NAME, None, "nope", False, None)
    with pytest.raises(PipelineError, match="measured by 'nope'"):
        choose(NAME, None, None, True, "nope")


def test_the_gate_and_its_settings():
    assert gate.read([]).margin == 0.02
    assert gate.read(["promotion.margin=0.5", "promotion.metric=roc_auc"]).metric == "roc_auc"
    limits = ["promotion.minimum.f1=0.5", "~promotion.minimum.r2", "+promotion.maximum.rmse=9"]
    assert gate.read(limits).minimum == {"f1": 0.5}
    assert gate.read(limits).maximum == {"rmse": 9}
    for wrong, words in {
        "promotion.margn=1": "did you mean 'promotion.margin'",
        "promotion.margin=much": "not a number",
        "promotion=strict": "conf/promotion has: default",
        "margin": "no setting of the gate",
    }.items():
        with pytest.raises(PipelineError) as error:
            gate.read([wrong])
        assert words in str(error.value)


LINEAGE = """
from pipeline.tracking.trackio.runs import SQLiteStorage
(id,) = [r["id"] for r in SQLiteStorage.get_run_records("pokemon") if r["name"] == {run!r}]
links = SQLiteStorage.get_run_artifacts("pokemon", {run!r}, id)["input"]
print("inputs", *sorted(f"{{one['name']}}:v{{one['version']}}" for one in links))
"""


def lineage(at: Registered, run: str) -> list[str]:
    """What a run in Trackio has used."""
    folder = {"TRACKIO_DIR": str(at.state / "trackio")}
    return at.printed("-c", LINEAGE.format(run=run), **folder).split("inputs ")[1].split()


def test_promoted_refused_forced_and_rolled_back(at: Registered):
    """What a team does, by the commands; everything is in the history afterwards."""
    out = at.pipeline("promote", "--version", "1", LOCAL, "--to", "production")
    assert "passed  version 1 loads and predicts in a fresh process" in out
    assert "version 1 is in production (the first one): passed the gate" in out
    assert lineage(at, f"promotion-{NAME}-1") == ["model:v0", "test_data.csv:v0"]
    out = at.pipeline("promote", "--version", "3", LOCAL, status=1)
    assert "FAILED  f1" in out
    assert "and may be 0.02 worse than version 1's" in out
    assert "error: version 3 was not promoted" in out
    assert registry.production(NAME).number == 1
    out = at.pipeline("promote", "--version=3", LOCAL, "--force", status=1)
    assert "--force needs a reason" in out
    version, said = registry.find(NAME, "3"), gate.Check(False, "f1 is too small")
    verdict = gate.Verdict(version, registry.production(NAME), "data", checks=[said])
    with pytest.raises(PipelineError, match="no version to go back to"):
        promotion.rollback(NAME, "", "local")
    with pytest.raises(PipelineError, match="not promoted: f1 is too small"):
        promotion.promote(version, verdict, "", False)
    promotion.promote(version, verdict, "a test of ours", True)
    assert registry.production(NAME).number == 3
    assert registry.find(NAME, "previous").number == 1
    out = at.pipeline("rollback", LOCAL, "--why", "that was bad")
    assert "version 1 is in production (was 3): that was bad" in out
    assert registry.production(NAME).number == 1
    assert registry.find(NAME, "previous").number == 3

    told = registry.history(NAME)
    assert [one.action for one in told] == ["promote", "promote", "rollback"]
    assert [(one.old, one.new) for one in told] == [(None, 1), (1, 3), (3, 1)]
    assert [one.forced for one in told] == [False, True, False]
    assert told[1].why.startswith("a test of ours (the gate had said: f1 is too small")
    assert all(one.who and one.when.tzinfo for one in told)
    assert registry.names() == [NAME]  # no lock is left

    ask = "import json; from pipeline.tracking import Tracker; find = Tracker('trackio', 'pokemon')"
    ask += ".find; names = ('production', 'previous', 'candidate')\n"
    ask += "print(json.dumps([find(f'model:{name}').version for name in names]))"
    aliases = json.loads(at.printed("-c", ask))
    numbers = [registry.find(NAME, alias) for alias in ("production", "previous", "candidate")]
    assert [f"model:{version}" for version in aliases] == [one.artifact for one in numbers]


def test_a_version_that_needs_more_columns_than_production(promoted: Registered):
    registry.mlflow_store.existing().set_registered_model_alias(NAME, "production", "3")
    out = promoted.pipeline("promote", "--version=2", LOCAL, status=1)
    assert "FAILED  needs columns that version 3 does not: type_1 (text)" in out
    assert "passed  predicts the same target and classes as version 3" in out
    assert registry.production(NAME).number == 3


def test_a_version_that_does_not_load(promoted: Registered):
    """Its files are those that were registered, and yet no model."""
    client, version = registry.mlflow_store.existing(), registry.find(NAME, "2")
    folder = registry.fetch(version)
    (folder / "model.skops").write_bytes(b"no model")
    digest = model_folder.digest(folder)
    folder = folder.rename(folder.with_name(f"2-{digest[:16]}"))
    client.set_model_version_tag(NAME, "2", "model.digest", digest)
    client.set_registered_model_alias(NAME, "previous", "2")
    try:
        with pytest.raises(PipelineError, match="version 2 does not work in a fresh process: "):
            promotion.rollback(NAME, "", "local")
    finally:
        client.set_model_version_tag(NAME, "2", "model.digest", version.tags["model.digest"])
        shutil.rmtree(folder)
    assert registry.production(NAME).number == 1
    assert registry.history(NAME) == []


def test_two_promotions_at_once(promoted: Registered):
    """Both gates say yes; one wins, and the other is told."""
    verdicts = [
        gate.Verdict(registry.find(NAME, number), registry.production(NAME), "data")
        for number in ("2", "3")
    ]
    ended: list[object] = []
    start = threading.Barrier(2)

    def go(verdict: gate.Verdict) -> None:
        start.wait()
        try:
            ended.append(promotion.promote(verdict.version, verdict, "", False))
        except PipelineError as error:
            ended.append(error)

    threads = [threading.Thread(target=go, args=(verdict,)) for verdict in verdicts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = (one for one in ended if isinstance(one, registry.Promotion))
    (lost,) = (one for one in ended if isinstance(one, PipelineError))
    assert f"version {won.new} was put into production by {won.who} meanwhile" in lost.what
    assert registry.production(NAME).number == won.new
    assert registry.find(NAME, "previous").number == 1
    assert registry.history(NAME) == [
        won.__class__(**{**vars(won), "when": won.when.replace(microsecond=0)})
    ]


def test_a_lock_that_is_held_and_one_whose_owner_died(
    promoted: Registered, monkeypatch: pytest.MonkeyPatch
):
    client = registry.mlflow_store.existing()
    client.create_registered_model(f"{NAME}.promoting", tags={"who": "Ash", "token": "x"})
    monkeypatch.setattr(promotion, "PATIENCE", 0.3)
    verdict = gate.Verdict(registry.find(NAME, "2"), registry.production(NAME), "data")
    with pytest.raises(PipelineError, match="Ash is promoting"):
        promotion.promote(verdict.version, verdict, "", False)
    monkeypatch.setattr(promotion, "LEASE", 0)
    assert promotion.promote(verdict.version, verdict, "", False).new == 2
    assert registry.names() == [NAME]


def test_registered_at_once_each_gets_a_version(
    at: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # MLflow leaves there what it fetches
    registry.mlflow_store.existing()
    logged = mlflow.models.get_model_info(f"models:/{NAME}/1")
    made = Artifact("data", "v0", "0" * 64)
    name, numbers = "at-once", []

    def register(number: int) -> None:
        folder = tmp_path / str(number)
        used = {"train": made, "test": made}
        numbers.append(
            mlflow_registration.register(
                name, logged, folder, used, made, {"f1": 0.5}, {}, "Forest for f1"
            )
        )

    threads = [threading.Thread(target=register, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, numbers)) == [1, 2, 3, 4, 5, 6]
    assert len(registry.versions(name)) == 6
    mlflow.MlflowClient().delete_registered_model(name)
