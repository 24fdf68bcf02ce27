"""Two pipelines at once in one project of W&B, from one machine and from two.

What was stored is asked of ``wandb.Api()``, and compared with what each pipeline says it has made.
"""

import json
from pathlib import Path

import pytest

from tests.support.runs import HANGS, SMALL, Checkout
from tests.support.wandb_server import WandbServer

STEPS = ["1-Download_data", "2-ETL", "3-Split_dataset", "4-Training_model"]
ASKED = """
import json, wandb
api, project = wandb.Api(), "tester/pokemon"
runs = {
    run.name: {
        "state": run.state, "id": run.id,
        "used": sorted(artifact.name for artifact in run.used_artifacts()),
        "made": sorted(a.name for a in run.logged_artifacts() if a.type != "run_table"),
        "summary": {k: v for k, v in run.summary.items() if isinstance(v, (int, float))},
    }
    for run in api.runs(project)
}
versions = {
    version.name: {
        "aliases": sorted(version.aliases), "digest": version.metadata["sha256"],
        "made_by": version.logged_by().name,
        "used_by": sorted(run.name for run in version.used_by()),
    }
    for kind in api.artifact_types(project) if kind.name != "run_table"
    for collection in kind.collections()
    for version in collection.artifacts()
}
print(json.dumps([runs, versions]))
"""


def summaries(checkout: Checkout) -> dict[str, dict]:
    """What the runs there have recorded, by their ids."""
    texts = [path.read_text() for path in checkout.state.glob("runs/*/summary.json")]
    return {run["run_id"]: run for run in map(json.loads, texts)}


def at_once(server: WandbServer, *started: tuple[Checkout, str]) -> list[dict]:
    """Start a pipeline in each of the places, with an override; the summaries of all."""
    before = {id for checkout, _ in started for id in summaries(checkout)}
    words = ("main.tracker=wandb", SMALL)
    processes = [
        checkout.start(*words, override, **server.environment()) for checkout, override in started
    ]
    outs = [process.communicate(timeout=HANGS)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(started), outs
    after = {id: run for checkout, _ in started for id, run in summaries(checkout).items()}
    return [run for id, run in after.items() if id not in before]


def check_stored(checkout: Checkout, server: WandbServer, pipelines: list[dict]) -> dict[str, dict]:
    """All that W&B has of them: each run, version, alias and link, and no other; the versions."""
    own = {"WANDB_DIR": str(checkout.state), "WANDB_SILENT": "true", **server.environment()}
    asked = checkout.python("-c", ASKED, **own)
    assert asked.status == 0, asked.err
    runs, versions = json.loads(asked.out.splitlines()[-1])
    ran = [(run["run_id"], name, step) for run in pipelines for name, step in run["steps"].items()
           if step["status"] == "ran"]  # fmt: skip
    expected = {f"{name}-{id}" for id, name, _ in ran}
    assert set(runs) == expected | {f"pipeline-{run['run_id']}" for run in pipelines}
    assert {run["state"] for run in runs.values()} == {"finished"}
    for run in pipelines:
        outputs: dict[str, str] = {}
        for name, step in run["steps"].items():
            made = {o["name"]: f"{o['name']}:{o['version']}" for o in step["outputs"]}
            if step["status"] == "ran":
                stored = runs[f"{name}-{run['run_id']}"]
                assert stored["id"] == step["tracker_run"]
                assert set(made.values()) <= set(stored["made"])
                assert set(stored["used"]) <= set(outputs.values())
                assert bool(stored["used"]) is (name != STEPS[0])
            for output in step["outputs"]:
                assert versions[made[output["name"]]]["digest"] == output["digest"]
            outputs |= made
        whole = runs[f"pipeline-{run['run_id']}"]
        for metric, value in run["metrics"].items():
            assert whole["summary"][metric] == pytest.approx(value)
    check_links(runs, versions)
    return versions


def check_links(runs: dict[str, dict], versions: dict[str, dict]) -> None:
    """Both ways of the lineage agree; numbers have no gaps; an alias means a single version."""
    for name, version in versions.items():
        assert name in runs[version["made_by"]]["made"]
        assert version["used_by"] == sorted(run for run in runs if name in runs[run]["used"])
    collections = {name.partition(":")[0] for name in versions}
    for collection in collections:
        names = [name for name in versions if name.partition(":")[0] == collection]
        assert sorted(names) == sorted(f"{collection}:v{number}" for number in range(len(names)))
        named = [alias for name in names for alias in versions[name]["aliases"]]
        assert len(set(named)) == len(named)
        if not collection.endswith("-records"):  # whose aliases are the digests of their contents
            expected = ["candidate", "latest"] if collection == "model" else ["latest"]
            assert sorted(named) == expected


def test_two_pipelines_at_once_on_one_machine(checkout: Checkout, server: WandbServer):
    """The second shares what both need; with the same settings it has nothing else to do."""
    pipelines = at_once(
        server, (checkout, "split.test_size=0.2"), (checkout, "split.test_size=0.3")
    )
    states = sorted(step["status"] for run in pipelines for step in run["steps"].values())
    assert states == [*["cached"] * 2, *["ran"] * 6, *["skipped"] * 2]
    same = at_once(server, *[(checkout, "split.test_size=0.4")] * 2)
    trained = [run["steps"][STEPS[3]] for run in same]
    assert sorted(step["status"] for step in trained) == ["cached", "ran"]
    assert trained[0]["outputs"] == trained[1]["outputs"]
    versions = check_stored(checkout, server, [*pipelines, *same])
    contents = [(name.partition(":")[0], one["digest"]) for name, one in versions.items()]
    assert len(set(contents)) == len(contents)
    assert not server.unanswered


def test_two_machines_at_once_with_the_same_settings(tmp_path: Path, server: WandbServer):
    """Neither knows of the other, so W&B may get equal bytes twice before it has them once."""
    places = [Checkout(tmp_path / name) for name in ("one", "other")]
    pipelines = at_once(server, *[(place, "split.test_size=0.2") for place in places])
    assert [step["status"] for run in pipelines for step in run["steps"].values()] == [
        *["ran"] * 4, "skipped", *["ran"] * 4, "skipped",
    ]  # fmt: skip
    check_stored(places[0], server, pipelines)
    data, others = ([o["digest"] for step in STEPS[:3] for o in run["steps"][step]["outputs"]]
                    for run in pipelines)  # fmt: skip
    assert data == others
    assert pipelines[0]["metrics"] == pipelines[1]["metrics"]
    assert not server.unanswered
