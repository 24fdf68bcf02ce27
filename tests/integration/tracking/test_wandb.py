"""W&B behind the tracker's interface: the real SDK against a server in this process.

What was stored is asked of ``wandb.Api()`` or of the server, not of the code under test.
"""

import base64
import copy
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import wandb
from PIL import Image

from pipeline.core.errors import PipelineError
from pipeline.core.settings import ROOT
from pipeline.tracking import Artifact, Tracker
from pipeline.tracking.wandb.runs import WandbRun, find
from pipeline.tracking.wandb.sdk import close
from tests.support import shared_workers
from tests.support.runs import HANGS
from tests.support.wandb_server import DROP, WandbServer
from tests.support.wandb_server.encoding import python_name
from tests.support.wandb_server.inputs import SCHEMA
from tests.support.wandb_server.operations import Mutation

OF_WANDB = 90  # seconds: what the SDK itself would wait at least
CHILD = """
import sys
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.tracking import Tracker

def start():
    return Tracker("wandb", "pokemon").open_run(job_type="test", name="test", config={{}})

def log(run, text="a,b\\n"):
    Path("x.csv").write_text(text)
    return run.log_artifact(Path("x.csv"), "x.csv", "raw_data")

def pause():
    print("waiting", flush=True)
    sys.stdin.readline()

try:
{body}
except PipelineError as error:
    raise SystemExit(f"failed: {{error}}")
"""


@pytest.fixture
def environment(wandb_server, tmp_path) -> dict[str, str]:
    """A client's variables, with a HOME and a state folder of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    home = tmp_path / "home"
    home.mkdir()
    return {
        **clean,
        **wandb_server.environment(),
        "HOME": str(home),
        "PIPELINE_STATE_DIR": str(tmp_path / "state"),
        "PIPELINE_TRACKER_TIMEOUT": "20",
        "PYTHONPATH": str(ROOT),
        "WANDB_PROJECT": "pokemon",
        "WANDB_RUN_GROUP": "weekly",
    }


@pytest.fixture
def client(environment, tmp_path, monkeypatch) -> Iterator[None]:
    """This process as a client of the server."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with mock.patch.dict(os.environ, environment, clear=True):
        yield
        close()


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """The SDK's service process ends with the run."""
    yield
    assert shared_workers.other_processes() == []


def start(job_type: str = "2-ETL", **config) -> WandbRun:
    """A run under the name of its job type."""
    return WandbRun(project="pokemon", job_type=job_type, name=f"{job_type}-1", config=config)


def log(run: WandbRun, content: str = "a,b\n1,2\n", name: str = "clean.csv", **more) -> Artifact:
    """Log a text as an artifact."""
    path = Path(name)
    path.write_text(content)
    return run.log_artifact(path, name, **{"type": "processed_data", **more})


class Child:
    """A process that works with the tracker; its text says what it does, in Python."""

    def __init__(self, body: str, environment: dict[str, str], folder: Path, timeout: float):
        code = CHILD.format(body=textwrap.indent(textwrap.dedent(body), "    "))
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**environment, "PIPELINE_TRACKER_TIMEOUT": str(timeout)},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_pause(self) -> None:
        """Wait until it says that it waits; its clock starts anew."""
        assert self.process.stdout.readline() == "waiting\n", self.process.stderr.read()
        self.started = time.monotonic()

    def resume(self) -> None:
        """Let it go on."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """What it wrote to stderr until its end; :attr:`seconds` says how long that took."""
        _, errors = self.process.communicate(timeout=HANGS)
        self.seconds = time.monotonic() - self.started
        return errors

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def child(environment, tmp_path):
    """Starts a :class:`Child`."""
    started = []

    def begin(body: str, timeout: float = 20, **variables: str) -> Child:
        started.append(Child(body, {**environment, **variables}, tmp_path, timeout))
        return started[-1]

    yield begin
    for one in started:
        one.__exit__()


# --- what is stored ---------------------------------------------------------------------------


def test_an_artifact_comes_back_as_it_was_logged(client, wandb_server, tmp_path):
    content = "name,speed\nPikachu,90\n"
    run = start()
    made = log(run, content, description="cleaned", metadata={"rows": 1})
    read = [
        run.use_artifact(f"clean.csv{tag}", tmp_path / f"in{tag}") for tag in ("", ":v0", ":latest")
    ]
    run.finish()

    digest = hashlib.sha256(content.encode()).hexdigest()
    assert (made.name, made.version, made.digest) == ("clean.csv", "v0", digest)
    for one in read:
        assert (one.reference, one.digest, one.type) == ("clean.csv:v0", digest, "processed_data")
        assert one.file().read_text() == content
        assert one.metadata == {"rows": 1}
    stored = wandb.Api().artifact("tester/pokemon/clean.csv:v0")
    assert (stored.description, stored.aliases) == ("cleaned", ["latest"])
    assert stored.metadata == {"rows": 1, "sha256": digest}
    assert wandb_server.store.blobs[hashlib.md5(content.encode()).hexdigest()] == content.encode()


def test_a_reference_is_resolved_without_a_run(client, wandb_server, tmp_path):
    run = start()
    made = log(run, "one", metadata={"rows": 1})
    run.finish()
    asked = len(wandb_server.requests)
    found = [find("pokemon", f"clean.csv{tag}") for tag in ("", ":v0", ":latest")]
    assert found == [made] * 3
    assert find("pokemon", "clean.csv:v1") is None
    assert find("pokemon", "nothing:latest") is None
    assert not any("/storage/" in request.path for request in wandb_server.requests[asked:])
    assert wandb_server.artifacts["clean.csv:v0"].users == []
    assert "WANDB_SERVICE" not in os.environ


def test_the_digest_of_an_artifact_that_others_made_is_computed(client):
    Path("theirs.csv").write_text("a\n1\n")
    with wandb.init(settings=wandb.Settings(silent=True)) as run:
        run.log_artifact("theirs.csv", name="theirs.csv", type="raw_data").wait()
    digest = hashlib.sha256(b"a\n1\n").hexdigest()
    assert find("pokemon", "theirs.csv:v0") == Artifact("theirs.csv", "v0", digest, "raw_data")


def test_a_folder_comes_back_with_all_its_files(client, tmp_path):
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "empty").write_bytes(b"")
    run = start()
    made = run.log_artifact(folder, "model", "model")
    read = run.use_artifact("model:v0", tmp_path / "in")
    run.finish()

    assert read.digest == made.digest
    found = {str(path.relative_to(read.path)) for path in read.path.rglob("*") if path.is_file()}
    assert found == {"a.txt", "deep/empty"}


def test_bytes_that_are_there_make_no_new_version(client, wandb_server):
    first, second = start(), None
    versions = [log(first, text).version for text in ("one", "one", "two")]
    first.finish()
    second = start()
    versions.append(log(second, "one").version)
    second.finish()

    assert versions == ["v0", "v0", "v1", "v0"]
    assert list(wandb_server.artifacts) == ["clean.csv:v0", "clean.csv:v1"]
    api = wandb.Api()
    assert api.artifact("tester/pokemon/clean.csv:latest").version == "v0"
    assert len(api.artifacts("processed_data", "tester/pokemon/clean.csv")) == 2


def test_an_alias_can_be_given_and_taken_away(client, wandb_server, tmp_path):
    run = start()
    log(run, "one")
    log(run, "two")
    stored = wandb.Api().artifact("tester/pokemon/clean.csv:v0")
    stored.aliases.append("production")
    stored.save()
    assert run.use_artifact("clean.csv:production", tmp_path / "in").version == "v0"
    assert wandb_server.artifacts["clean.csv:v0"].alias_names == ["production"]

    stored.aliases.remove("production")
    stored.save()
    with pytest.raises(PipelineError, match="production' was not found"):
        run.use_artifact("clean.csv:production", tmp_path / "again")
    run.finish()


def test_a_version_that_was_deleted_is_missed_and_made_anew(client, wandb_server, tmp_path):
    run = start()
    log(run, "one")
    log(run, "two")
    for version, rest in (("v0", ["clean.csv:v1"]), ("v1", [])):
        found = wandb.Api().artifact(f"tester/pokemon/clean.csv:{version}")
        found.delete(delete_aliases=True)
        assert wandb_server.store.find(found.id, object).state == "DELETED"
        assert [*wandb_server.artifacts] == rest
    assert find("pokemon", "clean.csv:v1") is find("pokemon", "clean.csv:latest") is None
    with pytest.raises(PipelineError, match="csv:v0' was not found"):
        run.use_artifact("clean.csv:v0", tmp_path / "in")
    assert log(run, "one").version == "v2"
    assert find("pokemon", "clean.csv:latest").version == "v2"
    run.finish()


def test_lineage_goes_both_ways(client, tmp_path):
    maker = start("2-ETL")
    log(maker)
    maker.finish()
    reader = start("3-Split_dataset")
    reader.use_artifact("clean.csv:latest", tmp_path / "in")
    log(reader, "other", name="train.csv", type="split_data")
    reader.finish()

    api = wandb.Api()
    run = api.run(f"tester/pokemon/{reader.id}")
    assert [one.name for one in run.used_artifacts()] == ["clean.csv:v0"]
    assert [one.name for one in run.logged_artifacts()] == ["train.csv:v0"]
    clean = api.artifact("tester/pokemon/clean.csv:v0")
    assert clean.logged_by().id == maker.id
    assert [one.id for one in clean.used_by()] == [reader.id]


def test_a_run_has_its_group_job_type_config_and_metrics(client, wandb_server):
    run = start("4-Training_model", estimator="RandomForest", drop=["name"], git_commit="abc")
    run.log({"f1": 0.75, "rows": 10})
    run.finish()

    found = wandb.Api().run(f"tester/pokemon/{run.id}")
    assert (found.group, found.job_type, found.name) == (
        "weekly",
        "4-Training_model",
        "4-Training_model-1",
    )
    assert found.config == {"estimator": "RandomForest", "drop": ["name"], "git_commit": "abc"}
    assert (found.summary["f1"], found.summary["rows"], found.state) == (0.75, 10, "finished")
    assert [(row["f1"], row["rows"]) for row in found.scan_history()] == [(0.75, 10)]
    assert run.url == f"{wandb_server.url}/tester/pokemon/runs/{run.id}"
    assert wandb_server.runs[run.id].exit_code == 0


def test_a_server_behind_a_path(client, wandb_server, monkeypatch, tmp_path):
    """As a proxy may lay it: all of its addresses begin with the path."""
    wandb_server.prefix = "/team/wandb"
    monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url)
    run = start()
    log(run, "ours")
    assert run.use_artifact("clean.csv:latest", tmp_path / "in").file().read_text() == "ours"
    run.log({"f1": 0.5})
    run.finish()
    assert run.url == f"{wandb_server.url}/tester/pokemon/runs/{run.id}"
    assert wandb_server.runs[run.id].exit_code == 0
    assert wandb.Api().run(f"tester/pokemon/{run.id}").summary["f1"] == 0.5


def test_hundreds_of_versions(client, wandb_server):
    """More than W&B's API gives at once."""
    run = start()
    first = log(run)
    with wandb_server.store.lock:
        collection = wandb_server.artifacts["clean.csv:v0"].collection
        for number in range(300):
            another = copy.copy(collection.live[0])
            another.digest = f"{number:032x}"
            another.id = wandb_server.store.add("Artifact", another)
            collection.append(another)
            collection.point(["latest"], another)
    assert [find("pokemon", f"clean.csv:{alias}").version for alias in ("latest", "v7", "v0")] == [
        "v300", "v7", "v0",
    ]  # fmt: skip
    assert log(run, "other,content\n").version == "v301"
    assert log(run) == first
    run.finish()


def test_a_team_has_projects_of_its_own(client, wandb_server, monkeypatch, tmp_path):
    """Whether it is named, or is the user's default one."""
    wandb_server.store.team("lab")
    own = start()
    log(own, "ours")
    own.finish()
    assert find("pokemon", "clean.csv:v0").digest == hashlib.sha256(b"ours").hexdigest()
    close()
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    assert find("pokemon", "clean.csv:v0") is None
    run = start()
    made = log(run, "theirs")
    assert run.use_artifact("clean.csv:latest", tmp_path / "in").file().read_text() == "theirs"
    run.finish()
    assert run.url == f"{wandb_server.url}/lab/pokemon/runs/{run.id}"
    named = Tracker("wandb", "pokemon").store
    assert wandb.Api().artifact("lab/pokemon/clean.csv:v0").logged_by().id == run.id
    close()
    monkeypatch.delenv("WANDB_ENTITY")
    wandb_server.store.entity.entity = "lab"
    assert find("pokemon", "clean.csv:latest") == made
    assert Tracker("wandb", "pokemon").store == named


def test_runs_are_found_by_what_they_are(client):
    for job_type in ("1-Download_data", "2-ETL"):
        run = start(job_type, size=len(job_type))
        run.finish()
    api = wandb.Api()
    assert len(api.runs("tester/pokemon", filters={"group": "weekly"})) == 2
    assert [one.id for one in api.runs("tester/pokemon", {"jobType": "2-ETL"})] == [run.id]
    assert [one.id for one in api.runs("tester/pokemon", {"config.size": 5})] == [run.id]
    assert len(api.runs("tester/pokemon", filters={"state": "running"})) == 0


def test_images_and_tables_are_stored(client, wandb_server, tmp_path):
    picture = tmp_path / "confusion.png"
    Image.new("RGB", (4, 3), "red").save(picture)
    table = pd.DataFrame({"name": ["Pikachu", None], "speed": [90.0, 45.5], "rare": [False, True]})
    run = start()
    run.log({"confusion": picture})
    run.log({"predictions": table})
    run.finish()

    found = wandb.Api().run(f"tester/pokemon/{run.id}")
    image, stored = found.summary["confusion"], found.summary["predictions"]
    assert (image["_type"], image["width"], image["height"]) == ("image-file", 4, 3)
    assert (stored["_type"], stored["nrows"], stored["ncols"]) == ("table-file", 2, 3)
    assert (
        wandb_server.store.blobs[wandb_server.runs[run.id].blob_key(image["path"])]
        == picture.read_bytes()
    )
    with found.file(stored["path"]).download(str(tmp_path / "table")) as file:
        content = json.load(file)
    assert [one.name for one in found.logged_artifacts()] == [f"run-{run.id}-predictions:v0"]
    assert content["columns"] == ["name", "speed", "rare"]
    assert content["data"][0] == ["Pikachu", 90.0, False]


def test_a_failed_run_says_so(client):
    run = start()
    run.finish(failed=True)
    assert wandb.Api().run(f"tester/pokemon/{run.id}").state == "failed"


def test_a_failed_run_says_why_and_a_killed_one_that_it_was(client):
    failed = start()
    failed.finish(failed=True, error=PipelineError("column 'hp' is missing", "check the data"))
    killed = start()
    killed.finish(failed=True, error=KeyboardInterrupt())
    one, other = (wandb.Api().run(f"tester/pokemon/{run.id}") for run in (failed, killed))
    assert (one.state, other.state) == ("failed", "killed")
    assert one.notes == one.summary["error"] == "column 'hp' is missing\ncheck the data"
    assert "error" not in other.summary


def test_nothing_is_sent_or_written_that_nobody_asked_for(client, wandb_server, environment, capfd):
    run = start()
    log(run)
    run.log({"f1": 1.0})
    run.finish()

    assert wandb_server.runs[run.id].file_names == {"config.yaml", "wandb-summary.json"}
    assert wandb_server.runs[run.id].events == []
    assert list(Path(environment["HOME"]).rglob("*")) == []
    assert [path.name for path in Path().iterdir()] == ["clean.csv"]
    printed = "".join(capfd.readouterr())
    written = [p.read_bytes() for p in Path(environment["PIPELINE_STATE_DIR"]).rglob("*.*")]
    assert printed == ""
    assert written
    assert not any(wandb_server.api_key.encode() in content for content in written)


def test_what_the_user_has_set_is_kept(client, wandb_server, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_CONSOLE", "wrap")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    run = start()
    print("a line of output")
    run.finish()
    assert "a line of output" in "".join(wandb_server.runs[run.id].console)
    assert list((tmp_path / "elsewhere").rglob("debug.log"))


# --- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["nothing:v0", "clean.csv:v7", "clean.csv:best"])
def test_an_artifact_that_is_not_there(client, tmp_path, reference):
    run = start()
    log(run)
    with pytest.raises(
        PipelineError, match=f"'{reference}' was not found in W&B project"
    ) as raised:
        run.use_artifact(reference, tmp_path / "in")
    run.finish(failed=True)
    assert "run the step that makes it" in raised.value.remedy


def test_a_project_that_is_not_there(client, wandb_server, tmp_path):
    run = start()
    with pytest.raises(PipelineError, match="was not found in W&B project"):
        run.use_artifact("other-project/clean.csv:v0", tmp_path / "in")
    run.finish()


@pytest.mark.parametrize(
    ("entity", "said"),
    [("nobody", "entity nobody not found"), ("closed", "permission denied")],
)
def test_an_entity_that_is_not_there_or_not_ours(
    client, wandb_server, monkeypatch, entity: str, said: str
):
    wandb_server.store.team("closed", open=False)
    monkeypatch.setenv("WANDB_ENTITY", entity)
    with pytest.raises(PipelineError, match=f"could not start a run: .*{said}") as raised:
        start()
    assert f"allowed to write to {entity} (WANDB_ENTITY)" in raised.value.remedy
    assert "pokemon (main.project_name)" in raised.value.remedy
    assert wandb_server.runs == {}


def test_a_project_that_may_only_be_read(client, wandb_server, monkeypatch, tmp_path):
    """Other projects of the same owner may be written; what is in this one can be read."""
    run = start()
    made = log(run)
    run.finish()
    before = wandb_server.artifacts, dict(wandb_server.store.blobs)
    wandb_server.store.project("pokemon").read_only = True
    with pytest.raises(PipelineError, match=r"not start a run: .*permission denied") as raised:
        start()
    assert "pokemon (main.project_name)" in raised.value.remedy
    assert "WANDB_API_KEY" not in str(raised.value)
    assert [*wandb_server.runs] == [run.id]
    assert (wandb_server.artifacts, wandb_server.store.blobs) == before
    assert find("pokemon", "clean.csv:latest") == made


def test_bytes_damaged_in_storage_or_on_the_way(client, wandb_server, tmp_path):
    run = start()
    log(run)
    wandb_server.faults.wrong_bytes = True
    with pytest.raises(PipelineError, match=r"clean\.csv.* is damaged"):
        run.use_artifact("clean.csv:v0", tmp_path / "in")
    wandb_server.faults.clear()
    run.use_artifact("clean.csv:v0", tmp_path / "good")
    wandb_server.corrupt("clean.csv:v0")
    with pytest.raises(PipelineError, match=r"clean\.csv.* is damaged"):
        run.use_artifact("clean.csv:v0", tmp_path / "again")
    run.finish()


def test_a_name_that_cannot_be_logged(client):
    run = start()
    log(run)
    with pytest.raises(PipelineError, match=r"clean\.csv already exists with type"):
        log(run, "other", type="model")
    with pytest.raises(PipelineError, match="Artifact name may only contain"):
        log(run, name="not a name")
    run.finish(failed=True)


def test_versions_are_linked_to_a_registry(client, wandb_server):
    """An alias there means the version that was linked with it last."""
    run, tracker = start(), Tracker("wandb", "pokemon")
    made = [log(run, text, "model", type="model") for text in ("one", "two")]
    run.finish()
    wandb_server.store.registry("model")
    linked = []
    for version in (*made, made[0]):
        for registry in ("model", "Acme/model"):  # the organization is found, or named
            tracker.link(version.reference, registry, "pokemon-legendary", "production")
        found = wandb.Api().artifact("Acme/wandb-registry-model/pokemon-legendary:production")
        linked.append((found.source_name, found.version, found.source_project))
    places = [("model:v0", "v0"), ("model:v1", "v1"), ("model:v0", "v0")]
    assert linked == [(*place, "pokemon") for place in places]


def test_a_registry_that_one_may_not_link_to(client, wandb_server):
    run, tracker = start(), Tracker("wandb", "pokemon")
    log(run, "one", "model", type="model")
    run.finish()
    for why in ("wandb-registry-model was not found", "permission denied"):
        with pytest.raises(PipelineError, match=why) as caught:
            tracker.link("model:v0", "model", "pokemon-legendary", "production")
        assert "link model:v0 to wandb-registry-model/pokemon-legendary" in caught.value.what
        assert "your role in it" in caught.value.remedy
        wandb_server.store.registry("model").read_only = True
    with pytest.raises(PipelineError, match="needs W&B"):
        Tracker("trackio", "pokemon").link("model:v0", "model", "pokemon", "production")


def test_a_server_that_fails_for_a_while_does_no_harm(client, wandb_server, tmp_path):
    wandb_server.faults.fail_next(1, 502)
    run = start()
    wandb_server.faults.fail_next(1, DROP)
    log(run)
    wandb_server.faults.only = "GET /storage"
    wandb_server.faults.fail_next(2, 429)
    run.use_artifact("clean.csv:v0", tmp_path / "in")
    wandb_server.faults.only = "file_stream"
    wandb_server.faults.fail_next(1)
    run.log({"f1": 0.5})
    run.finish()

    assert wandb_server.faults.given == 5
    found = wandb.Api().run(f"tester/pokemon/{run.id}")
    assert (found.state, found.summary["f1"]) == ("finished", 0.5)


def test_a_gateways_page_is_named_by_its_title(child, wandb_server):
    wandb_server.faults.status = 502
    error = child("start()", timeout=3).end()
    assert "could not start a run: HTTP 502: 502 Bad Gateway\ncheck the network" in error
    assert "<" not in error


def test_a_server_that_is_restarted_does_no_harm(child, wandb_server):
    running = child("run = start(); pause(); print(log(run).version); run.finish()")
    running.wait_for_pause()
    wandb_server.faults.status = DROP
    running.resume()
    assert wandb_server.wait_for(lambda: wandb_server.faults.given)
    wandb_server.stop()
    wandb_server.faults.clear()
    wandb_server.start()
    assert running.end() == ""
    assert list(wandb_server.artifacts) == ["x.csv:v0"]


def test_a_wrong_key_is_refused_at_once(child, wandb_server, tmp_path):
    running = child("start()", WANDB_API_KEY="f" * 40)
    error = running.end()
    assert running.process.returncode == 1
    assert f"W&B ({wandb_server.url}) could not start a run: " in error
    assert "check WANDB_API_KEY" in error
    assert "f" * 40 not in error
    assert "Traceback" not in error
    assert running.seconds < OF_WANDB


def test_a_key_that_is_revoked_meanwhile(child, wandb_server):
    running = child("run = start(); pause(); log(run)")
    running.wait_for_pause()
    wandb_server.api_key = "9" * 40
    running.resume()
    error = running.end()
    assert "could not log artifact 'x.csv': " in error
    assert "401" in error
    assert "check WANDB_API_KEY" in error
    assert "Traceback" not in error


def test_a_login_that_wandb_has_kept_with_a_long_key(child, wandb_server, environment):
    wandb_server.api_key = "local-" + "0123456789" * 8
    host = wandb_server.url.removeprefix("http://")
    login = f"machine {host}\n  login user\n  password {wandb_server.api_key}\n"
    Path(environment["HOME"], ".netrc").write_text(login)
    done = child("run = start(); log(run); run.finish()", WANDB_API_KEY="")
    assert done.end() == ""
    assert list(wandb_server.artifacts) == ["x.csv:v0"]


def test_a_server_that_is_not_there(child, wandb_server):
    wandb_server.stop()
    running = child("start()", timeout=3)
    error = running.end()
    assert f"W&B ({wandb_server.url}) could not start a run: " in error
    assert "connection refused\ncheck the network and WANDB_BASE_URL" in error
    assert running.process.returncode == 1
    assert running.seconds < OF_WANDB


def test_a_server_that_dies_before_an_artifact_is_logged(child, wandb_server):
    body = """
    run = start()
    pause()
    try:
        log(run)
    except PipelineError:
        run.finish(failed=True)
        raise
    """
    running = child(body, timeout=3)
    running.wait_for_pause()
    wandb_server.stop()
    running.resume()
    error = running.end()
    assert "could not log artifact 'x.csv': " in error
    assert "connection refused" in error
    assert running.seconds < OF_WANDB


def test_a_server_that_never_answers(child, wandb_server):
    """Accepted connections that stay silent: only our own limit ends the wait."""
    body = "run = start(); log(run); pause(); run.use_artifact('x.csv:v0', Path('in'))"
    running = child(body, timeout=3)
    running.wait_for_pause()
    wandb_server.faults.hold("GET /storage")
    running.resume()
    error = running.end()
    wandb_server.faults.clear()
    assert "could not read artifact 'x.csv:v0': no answer within 3 seconds" in error


def test_metrics_that_are_refused_fail_the_run(child, wandb_server):
    body = "run = start(); pause(); run.log({'f1': 1.0}); run.finish()"
    running = child(body, timeout=3)
    running.wait_for_pause()
    wandb_server.faults.only, wandb_server.faults.status = "file_stream", 404
    running.resume()
    assert "could not store the run: the server has not stored all of it" in running.end()


def test_a_full_disk(child, wandb_server):
    """A limit on the size of files stands in for it; the kernel's error differs by its number."""
    body = """
    import resource
    run = start()
    log(run, "x" * 100_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    run.use_artifact("x.csv:v0", Path("in"))
    """
    error = child(body).end()
    assert "could not read artifact 'x.csv:v0': [Errno 27] File too large" in error
    assert "free some space" in error


# --- the server of the tests ------------------------------------------------------------------


def refusal(url: str, data: bytes, method: str) -> urllib.error.HTTPError:
    """How the server refuses a request that the SDK would not make."""
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(urllib.request.Request(url, data, method=method))
    return raised.value


def test_bytes_are_put_on_another_host_with_the_headers_that_it_asks_for(client, wandb_server):
    run = start()
    log(run, "one")
    run.finish()
    key = hashlib.md5(b"one").hexdigest()
    assert wandb_server.store.blobs[key] == b"one"
    place, own = wandb_server.store.blob_url(key), f"{wandb_server.url}/storage/{key}"
    assert place != own
    assert refusal(own, b"one", "PUT").code == 401
    assert refusal(place, b"one", "PUT").code == 403


def answered(server: WandbServer, query: str, **variables: object) -> dict:
    """What the server answers to an operation that the SDK would not send."""
    login = base64.b64encode(f"api:{server.api_key}".encode()).decode()
    asked = urllib.request.Request(
        f"{server.url}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Authorization": f"Basic {login}"},
    )
    with urllib.request.urlopen(asked) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    "query", ["query Mood { viewer { mood } }", "mutation Mood { mood(input: {}) { id } }"]
)
def test_a_field_that_is_not_known_is_refused(query: str):
    """And noted, so that no test passes in which the SDK has asked for one."""
    with WandbServer() as server:
        told = answered(server, query)
        assert told["data"] is None
        assert 'Cannot query field "mood"' in told["errors"][0]["message"]
        assert len(server.unanswered) == 1


ALIASES = "mutation Add($input: AddAliasesInput!) { addAliases(input: $input) { success } }"
RUN = {"name": "one", "modelName": "pokemon"}


@pytest.mark.parametrize(
    ("query", "variables", "error"),
    [
        (
            'mutation Upsert { upsertBucket(input: {name: "one", mood: 1}) { inserted } }',
            {},
            "Field 'mood' is not defined by type 'UpsertBucketInput'",
        ),
        (
            "mutation Upsert($input: UpsertBucketInput!) { upsertBucket(input: $input) "
            "{ inserted } }",
            {"input": {**RUN, "mood": 1}},
            "Field 'mood' is not defined by type 'UpsertBucketInput'",
        ),
        (  # within another one
            ALIASES,
            {"input": {"artifactID": "1", "aliases": [{"alias": "best", "mood": 1}]}},
            "Field 'mood' is not defined by type 'ArtifactCollectionAliasInput'",
        ),
        (ALIASES, {"input": {"aliases": []}}, "Field 'artifactID' of required type 'ID!'"),
        (
            "mutation Add($input: MoodInput!) { addAliases(input: $input) { success } }",
            {"input": {}},
            "'MoodInput!' which cannot be used as an input type",
        ),
        (
            "mutation Upsert { upsertBucket(input: {name: $mood}) { inserted } }",
            {"mood": "one"},
            "Variable '$mood' is not defined",
        ),
        (
            "query Run { project(name: $mood) { id } }",
            {"mood": "one"},
            "Variable '$mood' is not defined",
        ),
    ],
)
def test_an_input_that_is_not_known_is_refused(query: str, variables: dict, error: str):
    """As GraphQL's validation does it: nothing is done, and it is noted."""
    with WandbServer() as server:
        told = answered(server, query, **variables)
        assert told["data"] is None
        assert error in told["errors"][0]["message"]
        assert (len(server.unanswered), server.runs) == (1, {})


def test_each_mutation_of_the_server_has_an_input():
    methods = {name for name in vars(Mutation) if not name.startswith("_")} - {"field"}
    assert {python_name(name) for name in SCHEMA.mutation_type.fields} == methods


def test_a_gateway_answers_with_a_page(client, wandb_server):
    wandb_server.faults.fail_next(1, 502)
    told = refusal(f"{wandb_server.url}/graphql", b"{}", "POST")
    assert (told.code, told.headers["Content-Type"]) == (502, "text/html")
    assert b"<title>502 Bad Gateway</title>" in told.read()


def test_a_rate_limit_has_the_headers_of_wandb(client, wandb_server):
    wandb_server.faults.retry_after = 7
    wandb_server.faults.fail_next(1, 429)
    told = refusal(f"{wandb_server.url}/graphql", b"{}", "POST").headers
    assert (told["RateLimit-Remaining"], told["RateLimit-Reset"]) == ("0", "7")
    assert told["Retry-After"] == "7"


def test_history_is_sampled_unless_all_of_it_is_asked_for(client):
    run = start()
    for step in range(20):
        run.log({"loss": 20.0 - step})
    run.finish()
    found = wandb.Api().run(f"tester/pokemon/{run.id}")
    for sampled in (found.history(5, pandas=False), found.history(5, ["loss"], pandas=False)):
        assert [row["_step"] for row in sampled] == [3, 7, 11, 15, 19]
    assert len(found.history(pandas=False)) == len([*found.scan_history()]) == 20


def test_the_server_can_be_run_by_hand(environment):
    command = [sys.executable, "-m", "tests.support.wandb_server", "--port", "0", "--quiet"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        printed = [process.stdout.readline() for _ in range(2)]
        process.terminate()
    assert printed[0].startswith("export WANDB_BASE_URL=http://127.0.0.1:")
    assert printed[1].startswith("export WANDB_API_KEY=")
