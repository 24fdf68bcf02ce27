"""The whole pipeline on a W&B server: what it leaves there.

What was stored is asked of the server or of ``wandb.Api()``.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from pipeline.core.files import content_digest
from pipeline.provenance import origin
from tests.support.clones import Clone
from tests.support.paths import ROOT
from tests.support.runs import HANGS, SMALL, Checkout, Finished, environment
from tests.support.sweeps import check_shared_workers, check_swept
from tests.support.wandb_server import WandbServer

ON_WANDB = ("main.tracker=wandb", SMALL)
WHOLE = "pipeline"  # the job type of the run of a whole pipeline
STEPS = ["1-Download_data", "2-ETL", "3-Split_dataset", "4-Training_model"]


ASKED = """
import json, wandb
api = wandb.Api()
project = "tester/pokemon"
runs = {}
for run in api.runs(project):
    runs[run.name] = {
        "group": run.group, "job": run.job_type, "state": run.state, "config": dict(run.config),
        "summary": {k: v for k, v in run.summary.items() if isinstance(v, (int, float))},
        "text": {k: v for k, v in run.summary.items() if isinstance(v, str)},
        "used": sorted(a.name for a in run.used_artifacts()),
        "made": sorted(a.name for a in run.logged_artifacts() if a.type != "run_table"),
        "media": sorted(k for k, v in run.summary.items() if hasattr(v, "keys")),
    }
versions = {}
names = ("pokemon.csv", "clean_data.csv", "train_data.csv", "test_data.csv", "model")
for name in names:
    for v in api.artifacts(api.artifact(f"{project}/{name}:latest").type, f"{project}/{name}"):
        versions[v.name] = {"type": v.type, "aliases": sorted(v.aliases), "metadata": v.metadata}
print(json.dumps([runs, versions]))
"""


PENDING = """
import wandb
from wandb.apis.public import Run
from wandb.sdk.verify.verify import check_wandb_version
api = wandb.Api()
for id in ("one", "lost"):
    Run.create(api, run_id=id, project="pokemon", state="pending")
lost = api.run("tester/pokemon/lost")
lost.update_state("failed")
print(api.run("tester/pokemon/one").state, api.run("tester/pokemon/lost").state)
lost.delete()
check_wandb_version(api)
"""


def asked(checkout: Checkout, server: WandbServer) -> tuple[dict, dict]:
    """Runs and artifact versions, as ``wandb.Api()`` tells them, which makes folders for them."""
    told = {**server.environment(), "WANDB_SILENT": "true", "WANDB_DIR": str(checkout.state)}
    return tuple(json.loads(python(ASKED, checkout, **told).splitlines()[-1]))


def python(code: str, checkout: Checkout, **told: str) -> str:
    """What a program prints."""
    command, env = [sys.executable, "-c", code], environment(checkout.home, **told)
    return subprocess.check_output(command, env=env, cwd=checkout.home, text=True)


def check_whole(run: dict, done: Finished, used: list[str]) -> None:
    """The run of a whole pipeline: its configuration, metrics, steps, and what was handed over."""
    assert (run["state"], run["job"], run["used"], run["made"]) == ("finished", WHOLE, used, [])
    assert run["config"]["split"] == done.summary["config"]["split"]
    assert run["config"].get("mlflow_run_id") == done.summary["mlflow_run"]
    assert run["text"]["status"] == "finished"
    for name, value in done.summary["metrics"].items():
        assert run["summary"][name] == pytest.approx(value)
    for name, step in done.summary["steps"].items():
        assert run["text"][f"steps/{name}"] == step["status"]
        if step["tracker_url"]:
            assert run["text"][f"runs/{name}"] == step["tracker_url"]


def test_two_runs_leave_exactly_their_runs_versions_aliases_and_lineage(
    checkout: Checkout, server: WandbServer
):
    first = checkout.run(*ON_WANDB, **server.environment())
    assert first.status == 0, first.err
    made = python(PENDING, checkout, **server.environment(), WANDB_DIR=str(checkout.state))
    assert made.splitlines()[0] == "pending failed"
    assert "version is up to date" in made
    agent = {"WANDB_RUN_ID": "one", "WANDB_RESUME": "allow", "WANDB_RUN_GROUP": "prod"}
    second = checkout.run(*ON_WANDB, "split.test_size=0.3", **server.environment(), **agent)
    assert f"dashboard: {server.url}/tester/pokemon" in second.out
    assert "make dashboard" not in second.out
    assert second.states == ["cached", "cached", "ran", "ran"]
    runs, versions = asked(checkout, server)
    one, two = first.summary["run_id"], second.summary["run_id"]
    expected = {f"{s}-{one}" for s in [WHOLE, *STEPS]} | {f"{s}-{two}" for s in STEPS[2:]}
    assert set(runs) == expected | {f"{WHOLE}-{two}"}
    assert server.runs["one"].display_name == f"{WHOLE}-{two}"  # only that one is the agent's
    check_whole(runs[f"{WHOLE}-{one}"], first, [])
    handed_over = ["clean_data.csv:v0", "pokemon.csv:v0"]
    check_whole(runs[f"{WHOLE}-{two}"], second, handed_over)
    for name, run in runs.items():
        assert run["state"] == "finished"
        assert run["job"] == name.removesuffix(f"-{one}").removesuffix(f"-{two}")
        assert run["group"] == ("dev" if name.endswith(one) else "prod")
        assert run["config"]["pipeline_run_id"] in (one, two)
        assert len(run["config"]["git_commit"]) == 40
        assert run["config"]["experiment"] == run["group"]
    for run in server.runs.values():  # from which W&B makes links to the code
        assert run.commit == run.config["git_commit"]["value"]
        assert run.repo == (origin.repository(ROOT) or None)
        assert run.tags == [run.group, "pokemon", "auto"]
    lineage = {name.rsplit("-", 3)[0]: (run["used"], run["made"]) for name, run in runs.items()
               if name.endswith(two) and not name.startswith(WHOLE)}  # fmt: skip
    assert lineage == {
        "3-Split_dataset": (
            ["clean_data.csv:v0"],
            ["3-Split_dataset-records:v1", "test_data.csv:v1", "train_data.csv:v1"],
        ),
        "4-Training_model": (
            ["test_data.csv:v1", "train_data.csv:v1"],
            ["4-Training_model-records:v1", "model:v1", "preprocessor:v1"],
        ),
    }
    assert {name: version["aliases"] for name, version in versions.items()} == {
        "pokemon.csv:v0": ["latest"],
        "clean_data.csv:v0": ["latest"],
        "train_data.csv:v0": [],
        "train_data.csv:v1": ["latest"],
        "test_data.csv:v0": [],
        "test_data.csv:v1": ["latest"],
        "model:v0": [],
        "model:v1": ["candidate", "latest"],
    }
    assert versions["model:v1"]["type"] == "model"
    training = runs[f"4-Training_model-{two}"]
    for name, value in second.summary["metrics"].items():
        assert training["summary"][name] == pytest.approx(value)
        assert versions["model:v1"]["metadata"][name] == pytest.approx(value)
    assert {"confusion_matrix", "roc_curve", "predictions"} <= set(training["media"])
    charts = {"confusion_table", "importances_table", "precision_recall_table", "roc_table"}
    assert charts <= set(training["media"])
    assert training["config"]["params"] == {**training["config"]["params"], "n_estimators": 5}

    # The default entity by its name, and labels: nothing depends on them.
    named = {"WANDB_ENTITY": "tester", "WANDB_BASE_URL": f"{server.url}/", "WANDB_TAGS": "mine"}
    third = checkout.run(*ON_WANDB, "split.test_size=0.3", **{**server.environment(), **named})
    assert third.states == ["cached"] * 4, third.err
    whole = f"{WHOLE}-{third.summary['run_id']}"
    outputs = [f"{name}:{version}" for name, version in third.versions().items()]
    runs, _ = asked(checkout, server)
    check_whole(runs[whole], third, sorted(outputs))
    assert len(runs) == len(expected) + 2

    for done in (first, second):  # either dashboard leads to the other
        client = mlflow.MlflowClient(f"sqlite:///{checkout.state / 'mlflow.db'}")
        for step in done.summary["steps"].values():
            if step["status"] == "ran":
                assert step["tracker_url"] in done.out
                tags = client.get_run(step["mlflow_run"]).data.tags
                assert tags["tracker.url"] == step["tracker_url"]
                name = f"{step['step']}-{done.summary['run_id']}"
                assert runs[name]["config"]["mlflow_run_id"] == step["mlflow_run"]
    assert not list(checkout.home.glob("**/trackio"))
    assert {path.name for path in checkout.home.iterdir()} <= {"state", ".config", ".cache"}


def test_a_run_is_laid_out_and_reproduced(server: WandbServer, tmp_path: Path):
    """From what W&B has of it; that changes nothing there."""
    place, env = Clone.make(tmp_path), server.environment()
    done = place.run(*ON_WANDB, "main.steps=[1,2]", **env)
    assert done.states[:2] == ["ran", "ran"], done.err
    id, before = done.summary["run_id"], {name: run.state for name, run in server.runs.items()}
    laid_out = place.tool("checkout", id, "--into", tmp_path / "out", **env)
    assert laid_out.status == 0, laid_out.err
    for output in done.outputs().values():
        assert content_digest(tmp_path / "out" / "data" / output["name"]) == output["digest"]
    again = place.tool("reproduce", id, **env)
    assert again.status == 0, again.out + again.err
    assert f"run {id} was reproduced: all " in again.out
    assert {name: run.state for name, run in server.runs.items()} == before
    assert {"pokemon.csv:v0", "clean_data.csv:v0"} < {*server.artifacts}
    assert not any(name.endswith(":v1") for name in server.artifacts)
    assert not server.unanswered


def test_a_grid_leaves_its_trials_and_its_table(checkout: Checkout, server: WandbServer):
    """The trials share a process and a worker; each has a temporary folder, removed at its end."""
    trials = "model.params.n_estimators=2,3,4,5"
    words = (trials, "main.tracker=wandb", "main.experiment_name=prod", "search.refit=true")
    env = {**server.environment(), "WANDB_TAGS": "ours,theirs"}
    check_shared_workers(checkout.start("-m", *words, **env), 4)
    assert all(run.tags[:3] == ["ours", "theirs", "prod"] for run in server.runs.values())
    check_swept(checkout, server, 5, "prod", ["candidate", "latest"])  # the best one, too


def test_ctrl_c_ends_the_run_as_killed(checkout: Checkout, server: WandbServer):
    """Its service process is not ended before it has sent that."""
    process = checkout.start("main.tracker=wandb", "main.steps=[1]", **server.environment())

    def at_work() -> bool:
        return any(run.config for run in server.runs.values() if run.job_type == STEPS[0])

    assert server.wait_for(at_work, 60)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 130, out
    assert "Traceback" not in out
    ends = [(run.job_type, run.state, run.exit_code) for run in server.runs.values()]
    assert ends == [(WHOLE, "killed", 255), (STEPS[0], "killed", 255)]
