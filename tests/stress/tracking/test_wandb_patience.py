"""How long W&B is waited for: while a slow line moves bytes, and no longer than it is worth."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from pipeline.core.errors import PipelineError
from pipeline.tracking.wandb.runs import WandbRun
from pipeline.tracking.wandb.sdk import abandon
from tests.support.paths import ROOT
from tests.support.runs import HANGS, environment
from tests.support.wandb_server import WandbServer

LARGE = 12_000_000
TIMEOUT = 4


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server whose client is this process."""
    monkeypatch.chdir(tmp_path)
    with WandbServer() as server:
        state = {"PIPELINE_STATE_DIR": str(tmp_path / "state")}
        own = {**server.environment(), **state, "PIPELINE_TRACKER_TIMEOUT": str(TIMEOUT)}
        with mock.patch.dict(os.environ, environment(tmp_path, **own), clear=True):
            yield server
            abandon(1)


# A run's start, an upload, its end and metrics; all answers so late would take minutes
DELAYED = "UpsertBucket", "PUT /storage", "CommitArtifact", "file_stream"
PROGRAM = """
import sys
from pathlib import Path
from pipeline.tracking import Tracker

run = Tracker("wandb", "pokemon").open_run(job_type="test", name="test", config={})
Path("x.csv").write_text("a,b\\n")
made = run.log_artifact(Path("x.csv"), "x.csv", "raw_data")
read = run.use_artifact("x.csv:latest", Path("in"))
run.log({"f1": 0.5})
run.finish()
print(made.version, read.digest == made.digest)
"""


def start() -> WandbRun:
    return WandbRun(project="pokemon", job_type="test", name="test", config={})


def log(run: WandbRun) -> str:
    Path("large").write_bytes(secrets.token_bytes(LARGE))
    return run.log_artifact(Path("large"), "large", "raw_data").version


def test_a_slow_line_that_makes_progress_is_waited_for(client: WandbServer):
    """It takes longer than the time-out and a second for each megabyte."""
    run = start()
    client.faults.bytes_per_second = LARGE // 24
    assert log(run) == "v0"
    client.faults.bytes_per_second = None
    run.finish()
    assert len(client.store.blobs) >= 1


def test_answers_of_five_seconds_are_waited_for(tmp_path: Path):
    """Nothing is asked twice. The SDK keeps its settings, so a process of its own asks."""
    with WandbServer() as server:
        server.faults.delays = dict.fromkeys(DELAYED, 5.0)
        own = {**server.environment(), "PIPELINE_STATE_DIR": str(tmp_path / "state")}
        own |= {"PIPELINE_TRACKER_TIMEOUT": "20", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env=environment(tmp_path, **own),
            capture_output=True,
            text=True,
            timeout=HANGS,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "v0 True\n", "")
        (run,) = server.runs.values()
        assert (run.state, run.summary["f1"], [*server.artifacts]) == (
            "finished",
            0.5,
            ["x.csv:v0"],
        )
        asked = [request.operation for request in server.requests]
        assert (asked.count("CreateArtifact"), asked.count("CommitArtifact")) == (1, 1)
        assert not server.unanswered


def test_a_file_of_two_gib_goes_up_in_parts(client: WandbServer):
    with Path("large").open("wb") as file:
        file.truncate(2 << 30)  # without a block on the disk
    run = start()
    assert run.log_artifact(Path("large"), "large", "raw_data").version == "v0"
    run.finish()
    (upload,) = client.store.uploads.values()
    assert upload.complete
    assert len(upload.taken) > 20
    assert client.unanswered == []


def test_a_line_that_stands_still_is_given_up(client: WandbServer):
    run = start()
    client.faults.hold("PUT /storage")
    with pytest.raises(PipelineError, match="could not log artifact 'large': no answer") as caught:
        log(run)
    assert f"main.tracker_timeout={2 * TIMEOUT}" in caught.value.remedy
    client.faults.clear()
    run.finish(failed=True)


def test_a_rate_limit_is_named(client: WandbServer):
    client.faults.retry_after, client.faults.status = 30, 429
    with pytest.raises(PipelineError, match="it limits the rate of requests") as caught:
        start()
    assert "HTTP 429" in caught.value.what
    assert f"main.tracker_timeout={2 * TIMEOUT}" in caught.value.remedy
