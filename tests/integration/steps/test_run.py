"""A step's run: code from W&B's documentation works on it, whichever tracker is in use."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.steps import Steps
from tests.support.wandb_server import WandbServer

# What a user's step does with its run, all of it as W&B's documentation writes it.
SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, {root!r})
import numpy as np
import pandas as pd
import wandb

from pipeline import steps


def go(args, run):
    assert run.config.epochs == run.config["epochs"] == 3
    run.config.update({{"learning_rate": 0.1}})
    for epoch in range(run.config.epochs):
        run.log({{"loss": 1 / (epoch + 1), "rows": np.int64(epoch)}}, step=epoch)
    run.summary["best_loss"] = min(run.summary["loss"], 0.25)
    Path("note.txt").write_text("hello")

    run.log_artifact("note.txt", name="note", type="text")
    artifact = wandb.Artifact("pair", type="dataset", description="two files", metadata={{"n": 2}})
    artifact.add_file("note.txt")
    with artifact.new_file("deep/other.txt") as file:
        file.write("other")
    logged = run.log_artifact(artifact, aliases=["best"]).wait()
    assert (logged.name, logged.version, logged.type) == ("pair", "v0", "dataset")

    note = run.use_artifact("note:latest", type="text")
    assert note.file().read_text() == "hello"
    assert note.file(root="copy") == Path("copy/note.txt")
    pair = run.use_artifact("pair:best")
    assert pair.digest == logged.digest
    assert (Path(pair.download()) / "deep/other.txt").read_text() == "other"
    assert pair.metadata["n"] == 2

    Path("dot.png").write_bytes(DOT)
    table = pd.DataFrame({{"name": ["a", "b"], "value": [1.5, 2.5]}})
    run.log({{"dot": Path("dot.png"), "rows_seen": table, "bars": table.set_index("name").value}})
    chart = wandb.plot.bar(wandb.Table(dataframe=table), "name", "value")
    run.log({{"image": wandb.Image("dot.png"), "table": wandb.Table(dataframe=table),
             "chart": chart}})


DOT = bytes.fromhex({dot!r})


def arguments():
    parser = steps.parser("Try each verb.")
    parser.add_argument("--epochs", type=int, default=3)
    return parser


if __name__ == "__main__":
    steps.main(__file__, arguments(), go)
"""
DOT = (
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)
SHORT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from pipeline import steps
{top}
def go(args, run):
    import trackio
    {body}

steps.main(__file__, steps.parser("Fail."), go)
"""
MEDIA = ("dot", "rows_seen", "bars", "image", "table")


@pytest.fixture
def script(place: Steps) -> Path:
    """A step of somebody's, which uses each verb."""
    path = place.home / "9-Verbs" / "script.py"
    path.parent.mkdir()
    path.write_text(SCRIPT.format(root=str(place.root), dot=DOT))
    return path


@pytest.fixture(params=["trackio", "wandb"])
def server(request: pytest.FixtureRequest) -> Iterator[WandbServer | None]:
    """A W&B server, or none."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(WandbServer()) if request.param == "wandb" else None


def test_code_for_wandb_works(place: Steps, script: Path, server: WandbServer | None):
    env = {"PIPELINE_TRACKER": "wandb", **server.environment()} if server else {}
    done = place.python(script, "--epochs=3", **env)
    assert done.status == 0, done.err
    assert done.versions() == {"note": "v0", "pair": "v0"}
    assert [used["name"] for used in done.report["inputs"]] == ["note", "pair"]
    assert done.report["metrics"] == {"loss": pytest.approx(1 / 3), "rows": 2, "best_loss": 0.25}
    assert done.report["tables"] == ["rows_seen"]  # which `compare` reads
    kept = place.home / "9-Verbs.rows_seen.csv"
    assert kept.read_text() == "name,value\na,1.5\nb,2.5\n"
    (wandb_has if server else trackio_has)(place, server)


def wandb_has(place: Steps, server: WandbServer) -> None:
    """What the step logged is on the server."""
    (run,) = server.runs.values()
    assert run.config["learning_rate"]["value"] == 0.1
    summary = run.summary
    assert (summary["loss"], summary["best_loss"]) == (pytest.approx(1 / 3), 0.25)
    assert {"dot", "rows_seen", "image", "table"} <= set(summary)
    assert any(name.startswith("bars") for name in summary)
    assert server.artifacts["pair:v0"].alias_names == ["latest", "best"]


def trackio_has(place: Steps, _: None) -> None:
    """What the step logged is in the store."""
    program = """
import json, sys
from pipeline.tracking.trackio.runs import SQLiteStorage, find
(run,) = SQLiteStorage.get_run_records("pokemon")
rows = SQLiteStorage.get_logs("pokemon", run_id=run["id"])
config = SQLiteStorage.get_run_config("pokemon", run_id=run["id"])
print(json.dumps([rows, config, find("pokemon", "pair:v0").metadata]))
"""
    told = place.python("-c", program, PYTHONPATH=str(place.root))
    rows, config, metadata = json.loads(told.out.splitlines()[-1])
    assert config["learning_rate"] == 0.1
    assert [row["loss"] for row in rows[:3]] == [1, 0.5, pytest.approx(1 / 3)]
    assert config["summary"]["best_loss"] == 0.25
    types = {name: row[name]["_type"] for row in rows for name in (*MEDIA, "chart") if name in row}
    assert types == {
        "dot": "trackio.image",
        "image": "trackio.image",
        **dict.fromkeys(("rows_seen", "bars", "table", "chart"), "trackio.table"),
    }
    assert metadata == {"n": 2}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("run.log_artifact(3, 'x', 'y')", ["was given 3", "wandb.Artifact"]),
        (
            "far = trackio.Artifact('far', 'x'); far.add_reference(Path(__file__).as_uri()); "
            "run.log_artifact(far)",
            ["'far' refers to file:///", "add_file"],
        ),
        (
            "run.log_artifact(__file__, 'x', 'text'); run.use_artifact('x', type='model')",
            ["x:v0 is of type 'text', not 'model'"],
        ),
        ("run.log_artifact(__file__, 'x', 'text').file()", ["x:v0 were not fetched"]),
    ],
)
def test_what_can_not_be_is_said(place: Steps, body: str, words: list[str]):
    path = place.home / "9-Fails" / "script.py"
    path.parent.mkdir()
    path.write_text(SHORT.format(root=str(place.root), body=body, top=""))
    done = place.python(path)
    assert done.status == 1
    assert "Traceback" not in done.err
    for word in ("error in 9-Fails: ", *words):
        assert word in done.err


def test_a_store_that_was_opened_too_early_is_said(place: Steps):
    """Trackio asks where its store is when it is imported, and keeps to that."""
    path = place.home / "script.py"
    body = "a = trackio.Artifact('mine', 'x'); a.add_file(__file__); run.log_artifact(a)"
    path.write_text(SHORT.format(root=str(place.root), body=body, top="import trackio"))
    done = place.python(path)
    assert done.status == 1
    assert "trackio was imported before the pipeline's library" in done.err
    assert f"TRACKIO_DIR={place.state / 'trackio'}" in done.err
    assert "Traceback" not in done.err
    done = place.python(path, TRACKIO_DIR=str(place.state / "trackio"))
    assert done.versions() == {"mine": "v0"}
