"""gc removes all that removed runs had, and nothing of another checkout's in the same store."""

from pathlib import Path

from mlflow import MlflowClient

from tests.support.runs import SMALL, Checkout, Finished

QUICK = (SMALL, "main.steps=[1,2,3]")


def test_gc_leaves_what_another_checkout_has_in_the_same_store(tmp_path: Path):
    """Of its own it removes all, even what an older run had made and the next one had used."""
    checkout = Checkout(tmp_path / "own")
    store = {"TRACKIO_DIR": str(tmp_path / "shared")}
    other = Checkout(tmp_path / "other")
    theirs = other.run(*QUICK, "split.test_size=0.3", **store)
    same = other.run(*QUICK, "split.test_size=0.4", "main.force=true", **store)
    for size in ("0.2", "0.4", "0.35"):  # the second one logs what the other had
        mine = checkout.run(*QUICK, f"split.test_size={size}", **store)

    for kept in ("2", "1"):
        told = checkout.tool("gc", "--keep", kept, "--yes", **store)
        assert told.status == 0, told.err
        assert ("train_data.csv:v2" in told.out) is (kept == "2")
        assert "train_data.csv:v0" not in told.out
        assert "train_data.csv:v1" not in told.out
    assert other.tool("verify", **store).out.strip() == "no problems found"
    again = other.run(*QUICK, "split.test_size=0.3", **store)
    assert again.states[:3] == ["cached"] * 3
    assert again.outputs() == theirs.outputs()
    assert other.run(*QUICK, "split.test_size=0.4", **store).outputs() == same.outputs()
    assert checkout.run(*QUICK, "split.test_size=0.35", **store).outputs() == mine.outputs()


def files(state: Path) -> set[Path]:
    """All files but bytecode, which belongs to no run."""
    return {path for path in state.rglob("*") if path.is_file() and "bytecode" not in path.parts}


def test_gc_brings_back_all_that_removed_runs_had(
    finished: tuple[Checkout, Finished], tmp_path: Path
):
    """Folders of runs and sweeps, MLflow's runs and models, Trackio's runs; not what is in use."""
    checkout = finished[0].copy(tmp_path / "home")
    for _ in range(2):
        assert checkout.run("-m", SMALL, "split.test_size=0.3,0.4").status == 0
    promoted = checkout.run("model.params.n_estimators=6")
    assert checkout.tool("promote", "--force", "--why", "x").status == 0
    last = checkout.run(SMALL, "main.force=true")
    before = files(checkout.state)
    client = MlflowClient(f"sqlite:///{checkout.state / 'mlflow.db'}")

    told = checkout.tool("gc", "--keep", "1", "--yes")
    assert told.status == 0, told.err
    assert f"removed; {checkout.state} has " in told.out
    left = [path.parent for path in checkout.state.glob("runs/**/summary.json")]
    assert left == [last.folder]
    assert not list(checkout.state.glob("runs/*/multirun.yaml"))
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = {run.info.run_id for run in client.search_runs(experiments, run_view_type=3)}
    steps = {step["mlflow_run"] for step in last.summary["steps"].values() if step["mlflow_run"]}
    model = promoted.summary["steps"]["4-Training_model"]["mlflow_run"]
    assert runs == {*steps, last.summary["mlflow_run"], model}
    assert client.get_model_version_by_alias("pokemon-legendary", "production").run_id == model
    assert len(files(checkout.state)) < len(before) / 2
    assert checkout.tool("verify").out.strip() == "no problems found"
    assert checkout.tool("gc", "--keep", "1").out.strip() == "nothing to remove"
    assert checkout.run(SMALL).states == ["cached"] * 4
