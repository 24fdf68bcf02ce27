"""A run recorded in Trackio is copied to W&B whole, and only once, however often that is done.

What was stored is asked of the server or of ``wandb.Api()``.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from unittest import mock

import pytest
import wandb

from tests.support.paths import ROOT
from tests.support.runs import SMALL, Checkout, Finished
from tests.support.wandb_server import WandbServer

STEPS = ["1-Download_data", "2-ETL", "3-Split_dataset", "4-Training_model"]
ON_TRACKIO = ("main.tracker=trackio", SMALL)
GIVE_ALIAS = """
from trackio.sqlite_storage import SQLiteStorage
model = SQLiteStorage.get_artifact_manifest("pokemon", "model", "v0")
SQLiteStorage.reassign_alias("pokemon", model["artifact_id"], "champion", model["version_id"])
"""
DELETE_RUNS = """
from trackio.sqlite_storage import SQLiteStorage
for run in SQLiteStorage.get_run_records("pokemon"):
    if run["name"].startswith(("1-", "2-")):
        assert SQLiteStorage.delete_run("pokemon", run["name"], run["id"])
"""
LOG_TO_WANDB = """
import wandb
with wandb.init(project="pokemon") as run:
    artifact = wandb.Artifact("model", type="model")
    with artifact.new_file("model.skops") as file:
        file.write("made with W&B")
    run.log_artifact(artifact, aliases=["champion"]).wait()
"""
SYNC_EACH = """
import sys
from pipeline.__main__ import main
for run in sys.argv[2:]:
    main(["--state-dir", sys.argv[1], "sync-to-wandb", "--run", run])
"""


class Recorded(Checkout):
    """Runs of the pipeline in Trackio.

    In ``first`` the third step has failed; ``whole`` takes over its first step and cleans the data
    in another way.
    """

    def record(self) -> None:
        """Run the pipeline, and give its model an alias."""
        other = ("etl.missing=['',Fire]", "split.stratify=nothing")
        first = self.run(*ON_TRACKIO, "main.steps=[1,2,3]", *other)
        whole = self.run(*ON_TRACKIO, "main.experiment_name=prod")
        assert first.states == ["ran", "ran", "failed"], first.err
        assert whole.states == ["cached", "ran", "ran", "ran"], whole.err
        self.execute(GIVE_ALIAS)
        ids = {name: run.summary["run_id"] for name, run in (("first", first), ("whole", whole))}
        (self.home / "runs.json").write_text(json.dumps(ids))

    def execute(self, code: str, *arguments: str, **env: str) -> str:
        """Run code in the repository, on this Trackio; what it writes to stderr."""
        there = {"TRACKIO_DIR": str(self.state / "trackio"), **env}
        done = self.python("-c", code, *arguments, cwd=ROOT, **there)
        assert done.status == 0, done.err
        return done.err

    def id(self, name: str) -> str:
        """The id of a run."""
        return json.loads((self.home / "runs.json").read_text())[name]

    def summary(self, name: str) -> dict:
        """The summary of a run."""
        return json.loads((self.state / "runs" / self.id(name) / "summary.json").read_text())

    def tracker_runs(self, name: str) -> list[str]:
        """The ids in Trackio of the finished steps of a run."""
        steps = self.summary(name)["steps"].values()
        return [step["tracker_run"] for step in steps if step["status"] in ("ran", "cached")]

    def blob(self, name: str, artifact: str) -> Path:
        """The file in Trackio of an artifact that a run ended with."""
        steps = self.summary(name)["steps"].values()
        outputs = {output["name"]: output for step in steps for output in step["outputs"]}
        return self.state / "trackio" / next(iter(outputs[artifact]["stored"]))

    def figures(self) -> list[Path]:
        """The images in Trackio."""
        return sorted((self.state / "trackio" / "media").rglob("*.png"))

    def sync(self, run: str, server: WandbServer, **env: str) -> Finished:
        """Copy a run to W&B."""
        return self.tool("sync-to-wandb", "--run", run, **{**server.environment(), **env})

    def copied(self, name: str, server: WandbServer) -> list[str]:
        """Copy a run to W&B, which has to succeed; the lines it prints."""
        done = self.sync(self.id(name), server)
        assert (done.status, done.err) == (0, "")
        return done.out.splitlines()

    def refused(self, name: str, server: WandbServer, **env: str) -> str:
        """Try to copy a run to W&B; the few lines that are printed instead."""
        done = self.sync(self.id(name), server, **{"PIPELINE_TRACKER_TIMEOUT": "10", **env})
        assert done.status == 1
        assert "Traceback" not in done.err
        error = done.err[done.err.index("error: ") :]
        assert len(error.splitlines()) <= 6, error
        return error

    def twin(self, home: Path) -> "Recorded":
        """The same runs in another place, to be changed."""
        shutil.copytree(self.home, home, dirs_exist_ok=True)
        return Recorded(home)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The runs, recorded once; a test that changes them takes a twin."""
    found = Recorded(tmp_path_factory.mktemp("recorded"))
    found.record()
    return found


@pytest.fixture(scope="module")
def copy(recorded: Recorded) -> Iterator[WandbServer]:
    """A server to which the whole run has been copied; copying it again changes nothing."""
    with WandbServer() as running:
        recorded.copied("whole", running)
        yield running
        assert running.unanswered == []


@dataclass
class Crowd:
    """A server that had a model before the runs came, the newer one first.

    Attributes:
        server: the server.
        refused: the error when it took no files of runs.
        warned: what was warned when it did.
    """

    server: WandbServer
    refused: str
    warned: str


@pytest.fixture(scope="module")
def crowd(recorded: Recorded) -> Iterator[Crowd]:
    """A server with many things."""
    with WandbServer() as running:
        recorded.execute(LOG_TO_WANDB, WANDB_DIR=str(recorded.home), **running.environment())
        running.faults.only, running.faults.status = "PUT /storage/runs", 404
        refused = recorded.refused("whole", running)
        running.faults.clear()
        done = recorded.sync(recorded.id("whole"), running)
        assert done.status == 0, done.err
        recorded.copied("first", running)
        yield Crowd(running, refused, done.err)
        assert running.unanswered == []


@pytest.fixture
def api(copy: WandbServer, tmp_path: Path) -> Iterator[wandb.Api]:
    """The SDK's view of the copy."""
    folders = {name: str(tmp_path) for name in ("HOME", "WANDB_DIR", "WANDB_CACHE_DIR")}
    with mock.patch.dict(os.environ, {**copy.environment(), **folders}):
        yield wandb.Api()
        wandb.teardown()


def holdings(server: WandbServer) -> dict:
    """All that would differ if something were there twice, or only in part."""
    runs = {
        id: {
            "name": run.display_name,
            "state": run.state,
            "history": [{key for key in row if key[0] != "_"} for row in run.history_rows],
            "summary": {*run.summary},
            "files": run.file_names,
            "used": sorted(artifact.name for artifact in run.used),
            "made": sorted(artifact.name for artifact in run.logged),
        }
        for id, run in server.runs.items()
    }
    versions = {name: (one.digest, one.alias_names) for name, one in server.artifacts.items()}
    return {"runs": runs, "versions": versions}


# --- what is copied ---------------------------------------------------------------------------


def test_runs_have_their_place_config_and_metrics(recorded: Recorded, api: wandb.Api):
    first, whole = recorded.id("first"), recorded.id("whole")
    runs = [api.run(f"tester/pokemon/{id}") for id in recorded.tracker_runs("whole")]
    assert len(api.runs("tester/pokemon")) == 5
    for run, step, made_by in zip(runs, STEPS, (first, whole, whole, whole), strict=True):
        assert (run.name, run.job_type, run.state) == (f"{step}-{made_by}", step, "finished")
        assert run.group == ("dev" if made_by == first else "prod")
        assert run.config["pipeline_run_id"] == made_by
        assert run.config["trackio_run"] == run.id
        assert not {"_Group", "_Created", "job_type"} & set(run.config)
        for metric, value in recorded.summary("whole")["steps"][step]["metrics"].items():
            assert run.summary[metric] == pytest.approx(value)
    assert runs[3].config["params"]["n_estimators"] == 5


def test_the_run_of_the_whole_pipeline_leads_to_the_copies(
    recorded: Recorded, copy: WandbServer, api: wandb.Api
):
    (whole,) = api.runs("tester/pokemon", {"jobType": "pipeline"})
    told = recorded.summary("whole")
    assert (whole.name, whole.group) == (f"pipeline-{told['run_id']}", "prod")
    assert (whole.state, whole.summary["status"]) == ("finished", "finished")
    assert whole.config["split"] == told["config"]["split"]
    for metric, value in told["metrics"].items():
        assert whole.summary[metric] == pytest.approx(value)
    for step, id in zip(STEPS, recorded.tracker_runs("whole"), strict=True):
        assert whole.summary[f"steps/{step}"] == told["steps"][step]["status"]
        assert whole.summary[f"runs/{step}"] == f"{copy.url}/tester/pokemon/runs/{id}"
    assert [artifact.name for artifact in whole.used_artifacts()] == ["pokemon.csv:v0"]
    assert len([*whole.scan_history()]) == 1  # what was told at its end is no metric


def test_metrics_keep_their_time(recorded: Recorded, api: wandb.Api):
    run = api.run(f"tester/pokemon/{recorded.tracker_runs('whole')[3]}")
    [row] = [row for row in run.scan_history() if row.get("f1") is not None]
    assert row["f1"] == recorded.summary("whole")["metrics"]["f1"]
    summary = recorded.state / "runs" / recorded.id("whole") / "summary.json"
    started = datetime.fromisoformat(run.config["trackio_created"]).timestamp()
    assert started < row["_timestamp"] < summary.stat().st_mtime


def test_lineage_is_the_same(recorded: Recorded, api: wandb.Api):
    ids = recorded.tracker_runs("whole")
    found = []
    for run in [api.run(f"tester/pokemon/{id}") for id in ids]:
        used = {artifact.name for artifact in run.used_artifacts()}
        found.append((used, {a.name for a in run.logged_artifacts() if a.type != "run_table"}))
    clean, train, test = "clean_data.csv:v0", "train_data.csv:v0", "test_data.csv:v0"
    assert found == [
        (set(), {"pokemon.csv:v0"}),
        ({"pokemon.csv:v0"}, {clean}),
        ({clean}, {train, test}),
        ({train, test}, {"preprocessor:v0", "model:v0"}),
    ]
    stored = api.artifact(f"tester/pokemon/{clean}")
    assert stored.logged_by().id == ids[1]
    assert [run.id for run in stored.used_by()] == [ids[2]]


def test_artifacts_have_their_bytes_aliases_and_metadata(
    recorded: Recorded, api: wandb.Api, tmp_path: Path
):
    model = api.artifact("tester/pokemon/model:champion")
    assert (model.name, model.type) == ("model:champion", "model")
    assert model.version == "v0"
    assert sorted(model.aliases) == ["candidate", "champion", "latest"]
    assert model.description.endswith("predicting legendary")
    assert model.metadata["f1"] == pytest.approx(recorded.summary("whole")["metrics"]["f1"])
    blob = recorded.blob("whole", "model")
    assert model.metadata["sha256"] == blob.name
    file = Path(model.download(str(tmp_path / "model")), "model.skops")
    assert file.read_bytes() == blob.read_bytes()
    clean = api.artifact("tester/pokemon/clean_data.csv:latest")
    assert (clean.version, clean.metadata["trackio_version"]) == ("v0", "v1")


def test_figures_tables_and_charts_are_there(recorded: Recorded, copy: WandbServer, api: wandb.Api):
    run = api.run(f"tester/pokemon/{recorded.tracker_runs('whole')[3]}")
    media = {name: value for name, value in run.summary.items() if hasattr(value, "keys")}
    images = [one["path"] for one in media.values() if one.get("_type") == "image-file"]
    stored = sorted(copy.store.blobs[copy.runs[run.id].blob_key(path)] for path in images)
    assert stored == sorted(path.read_bytes() for path in recorded.figures())
    assert {"confusion_matrix", "predictions", "importances_table"} <= set(media)
    assert media["predictions"]["nrows"] == 160
    assert "importances" in copy.runs[run.id].config["_wandb"]["value"]["visualize"]


def test_a_second_copy_changes_nothing(recorded: Recorded, copy: WandbServer):
    before, asked = holdings(copy), len(copy.requests)
    lines = recorded.copied("whole", copy)
    (whole,) = (id for id, run in copy.runs.items() if run.job_type == "pipeline")
    assert holdings(copy) == before
    assert lines == [
        f"{copy.runs[id].display_name}  {copy.url}/tester/pokemon/runs/{id}"
        for id in [*recorded.tracker_runs("whole"), whole]
    ]
    sent = {(request.method, request.operation) for request in copy.requests[asked:]}
    assert not {one for one in sent if one[0] == "PUT" or one[1].startswith("Upsert")}


def test_an_older_run_takes_nothing_from_a_newer_one(
    recorded: Recorded, copy: WandbServer, crowd: Crowd
):
    assert {*recorded.tracker_runs("first"), *copy.runs} < set(crowd.server.runs)
    versions = [crowd.server.artifacts[f"clean_data.csv:v{number}"] for number in (0, 1)]
    assert [one.alias_names for one in versions] == [["latest"], []]
    assert [json.loads(one.metadata)["trackio_version"] for one in versions] == ["v1", "v0"]
    assert [one.made_by.name for one in versions] == [
        recorded.tracker_runs(run)[1] for run in ("whole", "first")
    ]


def test_aliases_that_wandb_has_elsewhere_stay_there(crowd: Crowd):
    warning = "warning: in W&B the alias 'champion' stays on model:v0; in Trackio it is on model:v0"
    assert crowd.warned.startswith(warning)
    assert sorted(crowd.server.artifacts["model:v0"].alias_names) == ["champion", "latest"]
    assert crowd.server.artifacts["model:v1"].alias_names == ["candidate"]


def test_a_failed_step_is_copied_as_failed(recorded: Recorded, crowd: Crowd):
    server = crowd.server
    failed = next(run for run in server.runs.values() if run.state == "failed")
    assert failed.display_name == f"3-Split_dataset-{recorded.id('first')}"
    assert [artifact.name for artifact in failed.used] == ["clean_data.csv:v1"]
    assert (failed.logged, failed.history_rows) == ([], [])
    asked = len(server.requests)
    assert recorded.copied("first", server)[2].startswith(failed.display_name)
    assert not [one for one in server.requests[asked:] if one.operation.startswith("Upsert")]


def test_what_deleted_runs_made_is_copied_where_it_was_used(
    recorded: Recorded, wandb_server: WandbServer, tmp_path: Path
):
    changed = recorded.twin(tmp_path)
    changed.execute(DELETE_RUNS)
    done = changed.sync(changed.id("whole"), wandb_server)
    assert done.status == 0, done.err
    assert "warning: missing in Trackio, and not copied: 1-Download_data, 2-ETL" in done.err
    split, training, _ = wandb_server.runs.values()
    clean = wandb_server.artifacts["clean_data.csv:v0"]
    assert (clean.made_by, clean.users) == (None, [split])
    assert {one.name for one in training.used} == {"train_data.csv:v0", "test_data.csv:v0"}
    before = holdings(wandb_server)
    changed.sync(changed.id("whole"), wandb_server)
    assert holdings(wandb_server) == before


# --- what goes wrong --------------------------------------------------------------------------


def test_a_copy_that_was_cut_off_is_completed(
    recorded: Recorded, copy: WandbServer, wandb_server: WandbServer
):
    def die() -> None:
        wandb_server.wait_for(lambda: wandb_server.artifacts)
        wandb_server.stop()

    death = threading.Thread(target=die)
    death.start()
    error = recorded.refused("whole", wandb_server)
    death.join()
    assert "of 5) was not copied: W&B " in error
    assert "repeat this to copy the remaining runs" in error
    assert set(wandb_server.artifacts) < set(copy.artifacts)
    wandb_server.store.crash()
    wandb_server.start()
    assert len(recorded.copied("whole", wandb_server)) == 5
    assert holdings(wandb_server) == holdings(copy)


def test_files_that_the_server_refused_are_sent_again(
    recorded: Recorded, copy: WandbServer, crowd: Crowd
):
    name = f"4-Training_model-{recorded.id('whole')}"
    assert crowd.refused.startswith(f"error: {name} (4 of 5) was not copied: W&B did not store ")
    assert "confusion_matrix" in crowd.refused
    assert "importances" in crowd.refused
    trained = recorded.tracker_runs("whole")[3]
    runs = [server.runs[trained] for server in (copy, crowd.server)]
    assert set(runs[0].summary) == set(runs[1].summary)
    assert [sum("f1" in row for row in run.history_rows) for run in runs] == [1, 1]


def test_files_that_are_gone_or_damaged_are_named(
    recorded: Recorded, wandb_server: WandbServer, tmp_path: Path
):
    changed = recorded.twin(tmp_path)
    changed.blob("whole", "clean_data.csv").write_text("other bytes")
    changed.blob("whole", "model").unlink()
    changed.figures()[0].unlink()
    error = changed.refused("whole", wandb_server)
    assert "clean_data.csv:v1 has been changed on disk" in error
    assert "model:v0 is missing its file" in error
    assert f"of 4-Training_model-{changed.id('whole')} is missing its file" in error
    assert wandb_server.requests == []


def test_a_run_that_cannot_be_found(wandb_server: WandbServer, tmp_path: Path):
    step = {"status": "ran", "tracker_run": "b1ae", "tracker_url": "https://wandb.test/runs/1"}
    runs = tmp_path / "state" / "runs"
    for run, tracker in (("20261121-1", "wandb"), ("20261121-2", "trackio"), ("sweep/0", "wandb")):
        summary = {"tracker": tracker, "project": "pokemon", "steps": {"2-ETL": step}}
        (runs / run).mkdir(parents=True)
        (runs / run / "summary.json").write_text(json.dumps(summary))
    (runs / "killed").mkdir()
    asked = ["nothing", "20261121-3", "killed", "sweep", "sweep-0", "20261121-1", "20261121-2"]
    said = Recorded(tmp_path).execute(
        SYNC_EACH, str(tmp_path / "state"), *asked, **wandb_server.environment()
    )
    errors = said.split("error: ")[1:]
    expected = [
        ("there is no run 'nothing'\n", f"the runs are the folders in {runs}"),
        ("there is no run '20261121-3' (did you mean '20261121-", ""),
        ("run killed has no summary: it is under way, or was killed", ""),
        ("sweep is a sweep\n", "copy its trials: sweep-0"),
        ("run sweep-0 was recorded in W&B already", "https://wandb.test/runs/1"),
        ("run 20261121-1 was recorded in W&B already", "https://wandb.test/runs/1"),
        ("Trackio has nothing of run 20261121-2 in project 'pokemon'", "set TRACKIO_DIR"),
    ]
    for error, (beginning, remedy) in zip(errors, expected, strict=True):
        assert error.startswith(beginning)
        assert remedy in error
    assert wandb_server.requests == []


def test_nobody_is_logged_in(recorded: Recorded, wandb_server: WandbServer):
    error = recorded.refused("whole", wandb_server, WANDB_API_KEY="")
    assert error.startswith("error: no W&B key was found (WANDB_API_KEY, or a .netrc entry)")
    assert "run `wandb login`" in error
    assert wandb_server.requests == []


def test_a_wrong_key(recorded: Recorded, wandb_server: WandbServer):
    error = recorded.refused("whole", wandb_server, WANDB_API_KEY="f" * 40)
    assert "(1 of 5) was not copied: W&B " in error
    assert "check WANDB_API_KEY" in error
    assert "f" * 40 not in error
    assert wandb_server.runs == {}


def test_a_server_that_is_away(recorded: Recorded, wandb_server: WandbServer):
    wandb_server.stop()
    started = time.monotonic()
    error = recorded.refused("whole", wandb_server, PIPELINE_TRACKER_TIMEOUT="2")
    assert "(1 of 5) was not copied: W&B " in error
    assert "connection refused" in error
    assert time.monotonic() - started < 2 + 6  # its patience, and Python with the imports


def test_a_run_that_was_deleted_in_wandb_gets_a_new_id(
    recorded: Recorded, wandb_server: WandbServer
):
    recorded.copied("whole", wandb_server)
    etl, project = recorded.tracker_runs("whole")[1], wandb_server.store.project("pokemon")
    project.delete(etl)
    asked = len(wandb_server.requests)
    told = recorded.refused("whole", wandb_server)
    assert f"(run {etl}) was deleted in W&B" in told
    refused = [one for one in wandb_server.requests[asked:] if one.status == 409]
    assert len(refused) == 1  # it is said at once
    assert "--new-ids" in told
    env = {**wandb_server.environment(), "PIPELINE_TRACKER_TIMEOUT": "10"}
    done = recorded.tool("sync-to-wandb", "--run", recorded.id("whole"), "--new-ids", **env)
    assert done.status == 0, done.err
    assert len(wandb_server.runs) == 5
    (whole,) = (run for run in wandb_server.runs.values() if run.job_type == "pipeline")
    assert whole.summary["runs/2-ETL"].endswith(f"/runs/{etl}-again2")
    again = wandb_server.runs[f"{etl}-again2"]
    assert again.config["trackio_run"]["value"] == etl
    assert {one.name for one in again.logged} == {"clean_data.csv:v0"}


def test_the_run_of_a_report_is_copied_as_any_other(
    recorded: Recorded, wandb_server: WandbServer, tmp_path: Path
):
    reported = recorded.copy(tmp_path / "twin")
    done = reported.run(*ON_TRACKIO, "main.experiment_name=prod", "main.steps=all")
    assert done.states == ["cached"] * 4 + ["ran"], done.err
    copied = reported.sync(done.summary["run_id"], wandb_server)
    assert copied.status == 0, copied.err
    (report,) = [run for run in wandb_server.runs.values() if run.job_type == "5-Report"]
    assert (report.group, report.state) == ("prod", "finished")
    assert report.config["mistakes"]["value"] == done.summary["config"]["report"]["mistakes"]
    assert report.config["experiment"]["value"] == "prod"
    assert report.tags == ["prod", "pokemon", "auto"]
    assert {one.name for one in report.logged} == {"report.html:v0"}
    assert {one.name for one in report.used} >= {"model:v0", "test_data.csv:v0"}
    assert report.summary["report"]["_type"] == "html-file"
    (training,) = [run for run in wandb_server.runs.values() if run.job_type == STEPS[-1]]
    charts = {"confusion_table", "precision_recall_table", "roc_table"}
    assert charts <= set(training.summary)
